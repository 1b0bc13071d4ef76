"""The commands `serve` and `dev`, as processes."""

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

Starts = Callable[..., subprocess.Popen[str]]


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starts]:
    """Return what starts `headrace …`; all are ended in the end."""
    running: list[subprocess.Popen[str]] = []

    def begin(*words: str) -> subprocess.Popen[str]:
        output = (tmp_path / f"output-{len(running)}").open("w")
        command = [sys.executable, "-m", "headrace", *words]
        running.append(subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=output, text=True))
        output.close()
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.wait()


def output_with(text: str, file: Path) -> str:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if text in (found := file.read_text()):
            return found
        time.sleep(0.05)
    pytest.fail(f"{text!r} did not come:\n{file.read_text()}")


def test_dev_prints_a_command_that_works(start: Starts, shop: Path, tmp_path: Path) -> None:
    assert shop.is_dir()
    process = start("dev", "shop", "--port", "0", "--data", "kept")
    shown = output_with("Ctrl-C ends", tmp_path / "output-0")
    for text in ("Sources      shop", "Workflows    big_order", "/docs", "kept/token"):
        assert text in shown
    curl = shlex.split(next(line for line in shown.splitlines() if line.startswith("curl ")))
    url, body = curl[2], curl[-1]
    request = Request(url, body.encode(), {"Content-Type": "application/json"})  # noqa: S310 - loopback
    with urlopen(request, timeout=10) as answer:  # noqa: S310
        told = json.load(answer)
    (run,) = told["debugging"]["execution"]["purchase-order"]
    assert run["path"] == ["count", "is_big", "mark", "thank"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert (tmp_path / "kept" / "headrace.db").exists()


def test_serve_says_only_what_is_wrong(start: Starts, shop: Path, tmp_path: Path) -> None:
    file = shop / "workflows" / "big_order.json"
    (shop / "workflows" / "bad.json").write_text(file.read_text().replace("increment", "incremend"))
    process = start("serve", "shop", "--port", "0")
    shown = output_with('"listening"', tmp_path / "output-0")
    assert "shop/workflows/bad.json" in shown
    assert "W03" in shown
    assert "what is good runs" in shown
    assert "curl" not in shown
    # Logs of a server are for programs.
    assert json.loads(next(line for line in shown.splitlines() if '"listening"' in line))["address"]
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def test_a_port_that_is_in_use(start: Starts, shop: Path, tmp_path: Path) -> None:
    assert shop.is_dir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start("serve", "shop", "--port", str(port))
        assert process.wait(20) == 3
    shown = (tmp_path / "output-0").read_text()
    assert re.search(rf"127\.0\.0\.1:{port} is in use", shown)
    assert "Traceback" not in shown


def test_a_store_that_is_damaged(start: Starts, shop: Path, tmp_path: Path) -> None:
    assert shop.is_dir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "headrace.db").write_bytes(b"this is no database " * 500)
    process = start("serve", "shop", "--port", str(free_port()))
    assert process.wait(20) == 3
    shown = (tmp_path / "output-0").read_text()
    assert "headrace.db" in shown
    assert "Traceback" not in shown
