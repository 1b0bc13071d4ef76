"""What a refusal looks like, and what it must not have kept."""

import json

from tests.live.server import Doc, Server

REFUSALS = frozenset((400, 401, 403, 404, 405, 408, 411, 413, 414, 415, 422, 431))


def kept(server: Server) -> dict[str, int]:
    """Return how many documents of each kind there are; marks of events that are not saved stand apart."""
    server.wait_until_written()
    return server.place.counts()


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
