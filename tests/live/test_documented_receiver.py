"""The receiver of docs/effects.md, against a real server."""

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.doc_blocks import ROOT, blocks
from tests.live.conftest import Starts
from tests.live.server import TOKEN, Doc, Server, track_body, write_workspace
from tests.parts.ports import free_port

SECRET = "whsec_c2VjcmV0LW9mLXRlc3Rz"
MOST_LINES = 30


@pytest.fixture
def store_kind() -> str:
    """Use the embedded store."""
    return "embedded"


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Run the receiver as it stands in the page, and give its port."""
    (block,) = (one for one in blocks(ROOT / "docs/effects.md") if one.words == ("python", "receiver"))
    assert len(block.text.splitlines()) <= MOST_LINES
    folder, port = tmp_path / "receiver", free_port()
    folder.mkdir()
    (folder / "receiver.py").write_text(block.text)
    environ = {**os.environ, "ERP_HOOK": SECRET, "PORT": str(port)}
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "receiver.py"], cwd=folder, env=environ, stdout=log, stderr=log
    )
    log.close()
    try:
        _wait_for(port)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(port: int) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        with suppress(OSError):
            connection = HTTPConnection("127.0.0.1", port, timeout=1)
            connection.connect()
            connection.close()
            return
        time.sleep(0.05)
    raise AssertionError("the receiver does not listen")


def orders(folder: Path) -> list[tuple[str, float]]:
    """Return what the receiver kept."""
    with closing(sqlite3.connect(folder / "receiver" / "orders.db")) as connection:
        return connection.execute("SELECT key, total FROM orders").fetchall()


def test_it_checks_signatures_and_knows_keys_again(start: Starts, port: int, tmp_path: Path) -> None:
    def telling(secret: str) -> Doc:
        config = {
            "url": f"http://127.0.0.1:{port}/orders",
            "body": {"order": "o-1", "total": 12.5},
            "sign": [{"secret": secret}],
        }
        return {"on": {"event": [secret.lower()]}, "nodes": {"tell": {"plugin": "webhook", "config": config}}}

    workspace = write_workspace(tmp_path / "telling", good=telling("GOOD"), bad=telling("BAD"))
    allowed = {"HEADRACE_ALLOW_ADDRESSES": f"127.0.0.1:{port}", "GOOD": SECRET, "BAD": "whsec_b3RoZXI="}
    server = start(workspace, **allowed)
    assert server.post(track_body("good", "bad", ids=["good", "bad"]))[0] == 200
    effects = wait(server, {"sent", "dead"})
    assert effects["bad"]["reason"] == "status 401"
    assert orders(tmp_path) == [(effects["good"]["id"], 12.5)]
    # The same again is taken, and is no second order.
    path = f"/api/effects/{effects['good']['id']}/resend"
    assert server.request("POST", path, Authorization=f"Bearer {TOKEN}")[0] == 200
    again = wait(server, {"sent", "dead"})
    assert len(again["good"]["attempts"]) == 2
    assert len(orders(tmp_path)) == 1


def wait(server: Server, statuses: set[str]) -> dict[str, Doc]:
    """Wait until all effects have one of these statuses; return them by their workflow."""
    until = time.monotonic() + 10
    while True:
        items = server.get("/api/effects")[1]["items"]
        if items and all(one["status"] in statuses for one in items):
            return {one["workflow"]: one for one in items}
        assert time.monotonic() < until, items
        time.sleep(0.05)
