"""Killed in the middle of a merge, or of its undoing: the next server finishes it."""

import json
import signal
import time
from contextlib import suppress
from http.client import HTTPException

import pytest

from headrace.engine.crash import MERGE_POINTS
from tests.live.conftest import Starts
from tests.live.server import TOKEN, Doc, Server, track_body

PATIENCE_SECONDS = 60.0

POINTS = [
    *(("embedded", point) for point in MERGE_POINTS),
    *(("elastic", point) for point in ("merge.frozen", "merge.folded", "unmerge.undone")),
]


def visit(server: Server, session: str, number: int) -> str:
    """Send one event of a session and return whose it is; sent again it is the same event."""
    status, answer = server.post(track_body("count", session=session, ids=[f"{session}-{number}"]))
    assert status == 200
    return str(answer["profile"]["id"])


def ask(server: Server, path: str, body: Doc | None = None) -> None:
    """Ask for something that the server may die at."""
    with suppress(OSError, HTTPException):
        data = json.dumps(body or {}).encode()
        assert server.request("POST", path, data, Authorization=f"Bearer {TOKEN}")[0] == 200


def state(server: Server, *profiles: str) -> Doc:
    """Return for each id which profile it means, what that counted, and how many events are its own."""
    found: Doc = {}
    for profile in profiles:
        _, doc = server.get(f"/api/profiles/{profile}")
        _, page = server.get(f"/api/events?profile={profile}&limit=100")
        owned = sum(event["profile"] == doc["id"] for event in page["items"])
        found[profile] = (doc["id"], doc["stats"]["counters"]["seen"], owned)
    return found


def wait_until(server: Server, expected: Doc) -> None:
    """Wait until the state is as expected: events are re-owned beside the requests."""
    until = time.monotonic() + PATIENCE_SECONDS
    while (now := state(server, *expected)) != expected:
        assert time.monotonic() < until, f"{now}, not {expected}"
        time.sleep(0.2)


@pytest.mark.parametrize(("store_kind", "point"), POINTS)
def test_what_was_begun_is_finished(start: Starts, point: str) -> None:
    server = start(HEADRACE_CRASH_AT=point, HEADRACE_TIMERS_LEASE_SECONDS="2")
    a, b = visit(server, "a", 1), visit(server, "b", 1)
    assert visit(server, "b", 2) == b
    ask(server, f"/api/profiles/{b}/merge", {"with": a})
    if point.startswith("unmerge"):
        wait_until(server, {a: (a, 3, 3), b: (a, 3, 3)})
        ask(server, f"/api/profiles/{b}/unmerge")
    assert server.wait_until_ended() == -signal.SIGKILL
    server = start(HEADRACE_TIMERS_LEASE_SECONDS="2")
    if point.startswith("unmerge"):
        wait_until(server, {a: (a, 1, 1), b: (b, 2, 2)})
        assert visit(server, "b", 3) == b
        wait_until(server, {a: (a, 1, 1), b: (b, 3, 3)})
    else:
        # The first request finds it as it was left, or the worker was faster.
        assert visit(server, "b", 3) == a
        wait_until(server, {a: (a, 4, 4), b: (a, 4, 4)})
        assert visit(server, "b", 1) == a
        assert state(server, b) == {b: (a, 4, 4)}
    assert server.stop() == 0
