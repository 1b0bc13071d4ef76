"""A dry replay makes no write and no call: the socket and the store are watched."""

import hashlib
import json
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from headrace.engine.store.open import FILE_NAME
from tests.cli.conftest import Call
from tests.makers import sources, write_workspace
from tests.parts.proxy import FaultProxy
from tests.stores import ElasticPlace, EmbeddedPlace, Place

READS = ("_search", "_mget", "_count")
EVENTS = 12


class Receiver:
    """Somebody on the network who answers, and counts who comes."""

    def __init__(self) -> None:
        self.connections = 0
        receiver = self

        class Answers(BaseHTTPRequestHandler):
            def setup(self) -> None:
                receiver.connections += 1
                super().setup()

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                body = b'{"name": "Kim"}'
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join(5)


class Watch:
    """Notes every connection that this process begins, and every name that it looks up, while it is on."""

    def __init__(self) -> None:
        self.seen: list[str] | None = None
        # A hook cannot be taken away; it does nothing while nobody watches.
        sys.addaudithook(self._hear)

    def _hear(self, event: str, given: tuple[Any, ...]) -> None:
        if self.seen is None or not event.startswith("socket."):
            return
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            self.seen.append(f"{event} {given[1]}")
        elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
            self.seen.append(f"{event} {given[0]}")

    @contextmanager
    def __call__(self) -> Iterator[list[str]]:
        seen: list[str] = []
        self.seen = seen
        try:
            yield seen
        finally:
            self.seen = None


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


def files(receiver: Receiver, *, draft: bool) -> dict[str, Any]:
    """Return a workspace that calls and sends; the draft calls more, and sends something else."""
    url = f"http://{receiver.address}/{{{{ event.id }}}}"
    nodes: dict[str, Any] = {
        "ask": {
            "plugin": "http_request",
            "config": {"url": url, "method": "POST", "body": {"a": 1}},
            "then": {"ok": ["keep"], "failed": ["keep"]},
        },
        "keep": {
            "plugin": "set_fields",
            "config": {"fields": {"profile.traits.name": "{{ nodes.ask.body.name }}"}},
            "then": {"done": ["tell"]},
        },
        "tell": {"plugin": "webhook", "config": {"url": url, "body": {"draft": draft}}},
    }
    made: dict[str, Any] = {
        "sources.json": sources(shop={"trace": True}),
        "w": {"on": {"event": ["x"]}, "nodes": nodes},
    }
    if draft:
        again = {"plugin": "http_request", "config": {"url": url}, "retry": {"times": 5, "wait_seconds": 5}}
        made["more"] = {"on": {"event": ["x"]}, "nodes": {"again": again}}
    return made


def set_up(receiver: Receiver, place: Place, tmp_path: Path, call: Call, patch: pytest.MonkeyPatch) -> None:
    """Process events for good, with calls."""
    patch.setenv("HEADRACE_DATA", str(tmp_path / "data"))
    patch.setenv("HEADRACE_STORE", place.url)
    patch.setenv("HEADRACE_ALLOW_ADDRESSES", receiver.address)
    write_workspace(tmp_path / "live", files(receiver, draft=False))
    write_workspace(tmp_path / "draft", files(receiver, draft=True))
    lines = [{"type": "x", "id": f"e{n}", "session": f"s{n % 3}", "source": "shop"} for n in range(EVENTS)]
    (tmp_path / "events.ndjson").write_text("\n".join(map(json.dumps, lines)))
    result = call("events", "import", tmp_path / "events.ndjson", "--workspace", tmp_path / "live")
    assert result.exit_code == 0, result.output
    assert receiver.connections > 0


Snapshot = Callable[[], Any]


def snapshot_of_files(place: EmbeddedPlace) -> Snapshot:
    """Return what gives the bytes of all files of the store, as hashes."""

    def snapshot() -> Any:
        found = [place.data / f"{FILE_NAME}{suffix}" for suffix in ("", "-wal")]
        return [hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else "" for file in found]

    return snapshot


@contextmanager
def unchanged(place: Place) -> Iterator[str]:
    """Give the URL by which to replay, and look at the end whether anything was written."""
    if isinstance(place, EmbeddedPlace):
        with closing(sqlite3.connect(place.data / FILE_NAME)) as other:
            snapshot = snapshot_of_files(place)
            version = "SELECT data_version, total_changes() FROM pragma_data_version"
            before = other.execute(version).fetchone(), snapshot()
            yield place.url
            assert (other.execute(version).fetchone(), snapshot()) == before
        return
    assert isinstance(place, ElasticPlace)
    before_there = place.contents()
    host, port = place.node.host.split(":")
    with FaultProxy(host, int(port)) as proxy:
        yield place.url.replace(place.node.host, proxy.host)
        seen = proxy.seen()
        assert seen
        writes = [
            f"{one.method} {one.target}"
            for one in seen
            if one.method not in ("GET", "HEAD")
            and not (one.method == "POST" and one.target.partition("?")[0].rpartition("/")[2] in READS)
        ]
        assert writes == []
    assert place.contents() == before_there


def test_a_dry_replay_writes_nothing_and_calls_nobody(
    place: Place,
    receiver: Receiver,
    watch: Watch,
    tmp_path: Path,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_up(receiver, place, tmp_path, call, monkeypatch)
    place.show()
    calls = receiver.connections
    with unchanged(place) as url, watch() as seen:
        result = call(
            "replay", "--query", "type=x", "--workspace", tmp_path / "draft", "--store", url, "--json"
        )
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 1, result.output
    *events, last = lines
    assert last["summary"]["events"] == last["summary"]["differ"] == len(events) == EVENTS
    for one in events:
        # What was asked then is answered from its record; what is new has no answer, and is not tried again.
        assert one["answers"] == {"w": {"ask": "recorded"}, "more": {"again": "none"}}
        assert [each["what"] for each in one["differences"]] == ["ran", "effect"]
    assert receiver.connections == calls
    # The store alone was connected to, by the proxy that stands before it; of a file there is nothing on the network.
    hosts = (
        {url.partition("//")[2].partition("/")[0], place.node.host}
        if isinstance(place, ElasticPlace)
        else set()
    )
    allowed = {f"socket.connect {(host, int(port))}" for host, port in (each.split(":") for each in hosts)}
    assert set(seen) - allowed == set()
    assert bool(seen) is bool(hosts)


def test_a_story_writes_nothing(
    place: Place, receiver: Receiver, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(receiver, place, tmp_path, call, monkeypatch)
    place.show()
    with unchanged(place) as url:
        result = call("story", "e1", "--workspace", tmp_path / "live", "--store", url)
    assert result.exit_code == 0, result.output
    assert "ask (http_request) → ok" in result.output
    assert f"w.tell: POST http://{receiver.address}/e1" in result.output
