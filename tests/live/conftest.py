"""Fixtures that start servers and end every one of them."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.server import OUTGOING, Doc, Server, track_body, write_workspace
from tests.parts.elasticsearch import ElasticsearchNode
from tests.store_fixtures import own_place
from tests.stores import STORES, EmbeddedPlace, Place

Starts = Callable[..., Server]

MOST_MIB = 250
"""Resident memory of a server after any treatment."""

CURIOUS: Doc = {
    "about": "Looks at everything that a client may send, by names that are Python's too.",
    "on": {"event": ["*"]},
    "nodes": {
        "look": {
            "plugin": "branch",
            "config": {
                "when": "event.properties.items.keys.total > 1 or event.context.get == session.context.values or "
                "event.properties['__class__'] == 1 or event.type == 'items'"
            },
            "then": {"true": ["keep"], "false": ["keep"]},
        },
        "keep": {
            "plugin": "set_fields",
            "config": {
                "fields": {
                    "profile.traits.items": "{{ event.properties.items }}",
                    "profile.traits.text": "{{ event.type }} {{ event.properties['a.b'] }} {{ event.id }}",
                }
            },
            "then": {"done": ["count"]},
        },
        "count": {
            "plugin": "increment",
            "config": {"field": "profile.stats.counters.sum", "by": "{{ event.properties.by or 1 }}"},
        },
    },
}

DECLARED: Doc = {
    "event_types": {
        "numbered": {"schema": {"properties": {"n": {"type": "number"}}, "required": ["n"]}},
        **{name: {} for name in ("outgoing", "page-view")},
    },
    "segments": {"viewers": {"when": "profile.stats.views >= 1"}},
}
"""A type of event that can be refused, and a segment that is computed."""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Write the small workspace of these tests."""
    return write_workspace(tmp_path / "workspace")


@pytest.fixture
def launch(tmp_path: Path, workspace: Path, place: Place) -> Iterator[Starts]:
    """Return what starts a process without waiting for it; `path` is the workspace."""
    launched: list[Server] = []

    def begin(path: Path | None = None, data: Path | None = None, **more: Any) -> Server:
        launched.append(Server(path or workspace, data or tmp_path / "data", **({"place": place} | more)))
        return launched[-1]

    yield begin
    for server in launched:
        server.end()


@pytest.fixture
def start(launch: Starts) -> Starts:
    """Return what starts a server and waits until it takes requests."""

    def begin(path: Path | None = None, data: Path | None = None, **more: Any) -> Server:
        return launch(path, data, **more).wait_until_ready()

    return begin


@pytest.fixture
def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 3 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small disk")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture(scope="session", params=STORES)
def shared_place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Give the place of the shared server."""
    if request.param == "embedded":
        yield EmbeddedPlace(tmp_path_factory.mktemp("shared") / "data")
        return
    node: ElasticsearchNode = request.getfixturevalue("elasticsearch_node")
    with own_place(node) as place:
        yield place


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, shared_place: Place) -> Iterator[Server]:
    """Start one server on each store for all tests that a sound server survives."""
    path = tmp_path_factory.mktemp("shared")
    workspace = write_workspace(path / "workspace", curious=CURIOUS, outgoing=OUTGOING)
    for name, declared in DECLARED.items():
        (workspace / f"{name}.json").write_text(json.dumps({name: declared}))
    data = shared_place.data if isinstance(shared_place, EmbeddedPlace) else path / "data"
    server = Server(workspace, data, place=shared_place, HEADRACE_BODY_TIMEOUT_SECONDS="1")
    try:
        yield server.wait_until_ready()
        assert server.stop() == 0
    finally:
        server.end()


@pytest.fixture
def unharmed(shared: Server) -> Iterator[Server]:
    """Give the shared server, and see afterwards that it is as well as before."""
    faults = len(shared.said("fault"))
    yield shared
    assert shared.process.poll() is None
    assert shared.post(track_body("after", session="after"))[0] == 200
    assert shared.said("fault")[faults:] == []
    assert shared.resident_mib() < MOST_MIB
    until = time.monotonic() + 20
    while (held := in_flight(shared)) != (0.0, 0.0):
        assert time.monotonic() < until, held
        time.sleep(0.05)


def in_flight(server: Server) -> tuple[float, ...]:
    """Return the requests and bytes that the server says are under way."""
    text = server.request("GET", "/metrics")[2].decode()
    values = dict(
        line.split() for line in text.splitlines() if line.startswith("headrace_") and "{" not in line
    )
    return tuple(float(values[f"headrace_{name}_in_flight"]) for name in ("requests", "bytes"))
