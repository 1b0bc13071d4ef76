"""What a refusal looks like, and what it must not have kept."""

import json
import sqlite3
from contextlib import closing

from tests.live.server import Doc, Server

REFUSALS = frozenset((400, 401, 403, 404, 405, 408, 411, 413, 414, 415, 422, 431))


def kept(server: Server) -> dict[str, int]:
    """Return how many documents of each kind there are; marks of events that are not saved stand apart."""
    tables = ("sessions", "profiles", "failed", "claims", "effects", "timers")
    counts = {name: f"SELECT count(*) FROM {name}" for name in tables}  # noqa: S608 - names of ours
    counts |= {"events": "SELECT count(type) FROM events", "all events": "SELECT count(*) FROM events"}
    with closing(sqlite3.connect(server.data / "headrace.db")) as file:
        return {name: file.execute(count).fetchone()[0] for name, count in counts.items()}


def refused(
    server: Server, body: bytes, status: int, code: str = "", path: str = "/track", **headers: str
) -> Doc:
    """Post what must be refused with a status, and keep nothing; returns the problem."""
    before = kept(server)
    found, about, answer = server.request("POST", path, body, **headers)
    assert found == status, answer
    assert about["content-type"] == "application/problem+json"
    problem: Doc = json.loads(answer)
    assert code in ("", problem["code"])
    assert problem["status"] == status
    assert kept(server) == before
    return problem
