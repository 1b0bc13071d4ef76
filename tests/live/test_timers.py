"""Runs that wait in real seconds, through kills at every point of a timer's way."""

import signal
import time
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from headrace.engine.crash import WORKER_POINTS
from tests.live.conftest import Starts
from tests.live.server import Doc, Server, track_body, write_workspace

WAITS: Doc = {
    "on": {"event": ["begin"]},
    "nodes": {
        "wait": {"plugin": "wait", "config": {"period": "1s"}, "then": {"done": ["later", "event"]}},
        "later": {"plugin": "increment", "config": {"field": "profile.stats.counters.later"}},
        "event": {
            "plugin": "wait_for_event",
            "config": {"event": ["end"], "timeout": "1h"},
            "then": {"received": ["ended"]},
        },
        "ended": {"plugin": "increment", "config": {"field": "profile.stats.counters.ended"}},
    },
}
PATIENCE_SECONDS = 40.0
POINTS = [point for point in WORKER_POINTS if point.startswith("timers.")]


@pytest.fixture
def waits(tmp_path: Path) -> Path:
    """Write the workspace of these tests."""
    return write_workspace(tmp_path / "waits", waits=WAITS)


def counters(server: Server, *sessions: str) -> list[Doc]:
    found = []
    for session in sessions:
        profile = server.get(f"/api/sessions/{session}")[1]["profile"]
        found.append(server.get(f"/api/profiles/{profile}")[1]["stats"]["counters"])
    return found


def wait_until(server: Server, expected: Doc, *sessions: str) -> None:
    """Wait until profiles have these counters."""
    until = time.monotonic() + PATIENCE_SECONDS
    while (found := counters(server, *sessions)) != [expected] * len(sessions):
        assert time.monotonic() < until, found
        time.sleep(0.1)


def test_a_wait_takes_as_long_as_it_says(start: Starts, waits: Path) -> None:
    server = start(waits)
    began = time.monotonic()
    assert server.post(track_body("begin", session="s1"))[0] == 200
    assert counters(server, "s1") == [{}]
    wait_until(server, {"later": 1}, "s1")
    assert 0.9 < time.monotonic() - began < 30
    assert server.post(track_body("end", session="s1"))[0] == 200
    wait_until(server, {"later": 1, "ended": 1}, "s1")
    assert 'headrace_timers_total{outcome="fired"}' in server.request("GET", "/metrics")[2].decode()


def send(server: Server, event: str, sessions: list[str]) -> None:
    """Send an event for each session, the same one each time, as far as the server lives."""
    with suppress(OSError, HTTPException):
        for session in sessions:
            body = track_body(event, session=session, ids=[f"{event}-{session}"])
            assert server.post(body)[0] == 200


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_each_point_of_a_timers_way(start: Starts, waits: Path, point: str) -> None:
    sessions = [f"s{n}" for n in range(6)]
    lease: dict[str, Any] = {"HEADRACE_TIMERS_LEASE_SECONDS": "2"}
    # The third timer that comes by there kills the process, others are under way.
    server = start(waits, HEADRACE_CRASH_AT=f"{point}:3", **lease)
    send(server, "begin", sessions)
    assert server.wait_until_ended() == -signal.SIGKILL
    servers = [start(waits, HEADRACE_CRASH_AT=f"{point}:4", **lease)]
    send(servers[0], "begin", sessions)
    wait_until_waiting(servers[0], *sessions)
    send(servers[0], "end", sessions)
    servers += [start(waits, **lease), start(waits, **lease)]
    send(servers[1], "begin", sessions)
    wait_until_waiting(servers[1], *sessions)
    send(servers[1], "end", sessions)
    wait_until(servers[2], {"later": 1, "ended": 1}, *sessions)
    # Whatever is still due is fired too, and changes nothing more.
    time.sleep(3)
    wait_until(servers[1], {"later": 1, "ended": 1}, *sessions)
    assert servers[1].stop() == servers[2].stop() == 0


def wait_until_waiting(server: Server, *sessions: str) -> None:
    """Wait until every run waits for its event, or the server is dead."""
    until = time.monotonic() + PATIENCE_SECONDS
    with suppress(OSError, HTTPException):
        while not all(found.get("later") for found in counters(server, *sessions)):
            assert time.monotonic() < until
            time.sleep(0.1)
