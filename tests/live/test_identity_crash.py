"""Killed between a claim, a merge, a move and the event's commit: nobody lost, nothing twice."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.live.conftest import Starts
from tests.live.server import Doc, Server, write_workspace
from tests.stores import Place

COUNT: Doc = {
    "on": {"event": ["*"]},
    "nodes": {"n": {"plugin": "increment", "config": {"field": "profile.stats.counters.n"}}},
}
TYPES: Doc = {
    "event_types": {"sign-in": {"identify": {"email": {"path": "event.properties.email"}}}, "page-view": {}}
}


class Said(NamedTuple):
    """One event: its id, the session, the address that is given, if any."""

    id: str
    session: str
    mail: str | None = None

    def body(self) -> Doc:
        event: Doc = {"id": self.id, "type": "page-view"}
        if self.mail is not None:
            event = {"id": self.id, "type": "sign-in", "properties": {"email": self.mail}}
        return {"source": {"id": "backend"}, "session": {"id": self.session}, "events": [event]}


ANN, BOB = "ann@example.com", "bob@example.com"

STORY = (
    Said("e1", "phone"),
    Said("e2", "phone", ANN),
    Said("e3", "laptop"),
    Said("e4", "laptop", ANN),  # merges
    Said("e5", "laptop"),
    Said("e6", "laptop", BOB),  # the session moves to somebody new
    Said("e7", "laptop"),
    Said("e8", "tablet", ANN),  # known from the first event
    Said("e9", "laptop", ANN),  # and back
    Said("e10", "kiosk"),
    Said("e11", "kiosk", BOB),  # merges
)
OF_ANN = {"e1", "e2", "e3", "e4", "e5", "e8", "e9"}

POINTS = [
    *(("embedded", point) for point in ("store.before_commit:4", "store.after_commit:5", "merge.folded:1")),
    *(("embedded", point) for point in ("identify.moved:1", "identify.merged:1")),
    *(("elastic", point) for point in ("store.claimed:2", "identify.moved:1")),
]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    path = write_workspace(tmp_path / "workspace", count=COUNT)
    (path / "event_types.json").write_text(json.dumps(TYPES))
    return path


def send(server: Server, story: list[Said]) -> None:
    """Send events, one after another; somebody else may be at work on the same session."""
    for said in story:
        status, answer = server.post(said.body(), Authorization="Bearer backend-key")
        assert status == 200, answer


@pytest.mark.parametrize("store_kind", ["elastic", "embedded"])
async def test_two_servers_move_one_session_to_and_fro(start: Starts, place: Place) -> None:
    servers = [start(), start()]
    sent = [
        Said(f"e{number}", "tablet", None if number % 3 else (ANN if number % 2 else BOB))
        for number in range(36)
    ]
    await asyncio.gather(*(asyncio.to_thread(send, servers[at % 2], sent[at::4]) for at in range(4)))
    for server in servers:
        server.wait_until_written()
    await place.finish()
    _, found = servers[0].get("/api/events?limit=100")
    assert sorted(event["id"] for event in found["items"]) == sorted(said.id for said in sent)
    _, profiles = servers[1].get("/api/profiles?limit=100")
    by_id = {doc["id"]: doc for doc in profiles["items"]}
    for profile in {event["profile"] for event in found["items"]}:
        mine = [event for event in found["items"] if event["profile"] == profile]
        assert by_id[profile]["stats"]["counters"]["n"] == len(mine)
    known = [doc["identities"]["email"] for doc in by_id.values() if "identities" in doc]
    assert sorted(known) == [[ANN], [BOB]]
    _, session = servers[0].get("/api/sessions/tablet")
    assert session["stats"]["events"] == len(sent)


def tell(server: Server) -> Iterator[Said]:
    """Send the story until the server dies; yield what was not answered."""
    for said in STORY:
        try:
            status, _ = server.post(said.body(), Authorization="Bearer backend-key")
            assert status == 200
        except OSError:
            yield said


@pytest.mark.parametrize(("store_kind", "point"), POINTS)
async def test_killed_on_the_way(start: Starts, place: Place, point: str) -> None:
    server = start(HEADRACE_CRASH_AT=point)
    left = list(tell(server))
    assert left, "it was never there"
    server.wait_until_ended()
    server = start()
    # What was not answered is sent again, and after it all that was: that changes nothing.
    for said in (*left, *STORY):
        status, _ = server.post(said.body(), Authorization="Bearer backend-key")
        assert status == 200, server.text()
    await place.finish()
    with suppress(AssertionError):
        server.wait_until_written()
    place.show()
    status, found = server.get("/api/events?limit=100")
    assert status == 200
    events = {event["id"]: event for event in found["items"]}
    assert len(found["items"]) == len(events) == len(STORY)
    profiles = {event["profile"] for event in events.values()}
    people: dict[str, Doc] = {}
    for profile in profiles:
        status, doc = server.get(f"/api/profiles/{profile}")
        assert status == 200
        people[doc["id"]] = doc
    assert len(people) == 2
    by_mail = {doc["identities"]["email"][0]: doc for doc in people.values()}
    mine = {id for id, event in events.items() if event["profile"] in by_mail[ANN]["ids"]}
    assert mine == OF_ANN
    assert by_mail[ANN]["stats"]["counters"]["n"] == len(OF_ANN)
    assert by_mail[BOB]["stats"]["counters"]["n"] == len(STORY) - len(OF_ANN)
    assert server.stop() == 0
