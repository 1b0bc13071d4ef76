"""A server whose cluster is not there: it starts, says so, and goes on by itself."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import Starts
from tests.live.server import Doc, Server, track_body, write_workspace
from tests.parts.elasticsearch import ElasticsearchNode
from tests.parts.proxy import FaultProxy

REFUSED_WITHIN_SECONDS = 12.0
BACK_WITHIN_SECONDS = 15.0


SAYING: Doc = {
    "on": {"event": ["count"]},
    "nodes": {
        "seen": {
            "plugin": "increment",
            "config": {"field": "profile.stats.counters.seen"},
            "then": {"done": ["say"]},
        },
        "say": {
            "plugin": "respond",
            "config": {"members": {"seen": "{{ profile.stats.counters.seen }}"}},
        },
    },
}


@pytest.fixture
def store_kind() -> str:
    """Use one store: each server is told of a cluster by its test."""
    return "embedded"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Write a workspace whose workflow answers how often it ran for a profile."""
    return write_workspace(tmp_path / "workspace", count=SAYING)


@pytest.fixture
def proxy(elasticsearch_node: ElasticsearchNode) -> Iterator[FaultProxy]:
    """Give a way to the node that can be closed."""
    host, _, port = elasticsearch_node.host.partition(":")
    with FaultProxy(host, int(port)) as proxy:
        yield proxy


@pytest.fixture
def store(elastic_url: str, elasticsearch_node: ElasticsearchNode, proxy: FaultProxy) -> str:
    """Return the URL of a store behind the proxy."""
    return elastic_url.replace(elasticsearch_node.host, f"someone:hush@{proxy.host}")


def wait_for(what: Callable[[], Any], server: Server, seconds: float) -> Any:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(OSError):
            if found := what():
                return found
        time.sleep(0.05)
    raise AssertionError(server.text())


def listen(server: Server) -> Server:
    said = wait_for(lambda: server.said("listening"), server, 30)
    server.port = int(said[0]["address"].rpartition(":")[2])
    return server


def is_ready(server: Server) -> bool:
    return server.request("GET", "/readyz")[0] == 200


def counted(server: Server, session: str) -> int:
    status, answer = server.post(track_body("count", session=session))
    assert status == 200, answer
    return int(answer["response"]["seen"])


def test_a_server_starts_without_its_cluster_and_recovers(
    launch: Starts, store: str, proxy: FaultProxy
) -> None:
    proxy.refuse()
    server = listen(launch(HEADRACE_STORE=store))
    assert server.request("GET", "/healthz")[0] == 200
    began = time.monotonic()
    status, headers, body = server.request("POST", "/track", json.dumps(track_body("count")).encode())
    assert time.monotonic() - began < REFUSED_WITHIN_SECONDS
    assert (status, json.loads(body)["code"]) == (503, "store_unavailable")
    assert int(headers["retry-after"]) > 0
    status, _, body = server.request("GET", "/readyz")
    assert (status, json.loads(body)) == (503, {"status": "not_ready", "store": "store-away", "codes": []})
    facts = server.get("/readyz")[1]["facts"]
    assert (facts["kind"], facts["failure"]) == ("elasticsearch", "store-away")
    (said,) = server.said("store not ready")
    assert said["code"] == "store-away"
    proxy.accept()
    wait_for(lambda: is_ready(server), server, BACK_WITHIN_SECONDS)
    assert [counted(server, "s1") for _ in range(3)] == [1, 2, 3]
    wait_for(lambda: server.said("store ready"), server, BACK_WITHIN_SECONDS)
    wait_for(lambda: len(server.get("/api/events?type=count")[1]["items"]) == 3, server, BACK_WITHIN_SECONDS)
    assert server.stop() == 0
    assert "hush" not in server.text()
    assert "Traceback" not in server.text()


def test_a_cluster_that_goes_away_and_comes_back(launch: Starts, store: str, proxy: FaultProxy) -> None:
    server = listen(launch(HEADRACE_STORE=store))
    wait_for(lambda: is_ready(server), server, BACK_WITHIN_SECONDS)
    assert counted(server, "s1") == 1
    proxy.refuse()
    status, headers, _ = server.request("POST", "/track", json.dumps(track_body("count")).encode())
    assert status == 503
    assert "retry-after" in headers
    wait_for(lambda: not is_ready(server), server, 10)
    proxy.accept()
    wait_for(lambda: is_ready(server), server, BACK_WITHIN_SECONDS)
    # What was refused was not counted.
    assert counted(server, "s1") == 2
    assert server.stop() == 0


def test_without_an_admin_token_nothing_is_read_and_the_start_says_so(launch: Starts, store: str) -> None:
    server = listen(launch(HEADRACE_STORE=store, HEADRACE_ADMIN_TOKEN=""))
    (said,) = server.said("no admin token")
    assert "HEADRACE_ADMIN_TOKEN" in said["reason"]
    status, answer = server.get("/api/events")
    assert (status, answer["code"]) == (503, "no_token")
    assert "HEADRACE_ADMIN_TOKEN_FILE" in answer["detail"]
    wait_for(lambda: is_ready(server), server, BACK_WITHIN_SECONDS)
    assert counted(server, "s1") == 1
    assert not (server.data / "token").exists()
    assert server.stop() == 0
