"""Clients that send events, remember the answers, and check the file."""

import asyncio
import json
import random
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.live.connection import Connection
from tests.live.server import track_body

CONNECTIONS = 8
COLLECT_SHARE = 0.1


@dataclass(frozen=True)
class Sent:
    """One request with the ids that its events have."""

    path: str
    headers: str
    body: bytes
    ids: tuple[str, ...]


@dataclass
class Traffic:
    """Everything that was sent to servers on one file; `name` keeps its ids apart from those of other traffic."""

    name: str
    seed: int
    sessions: int = 12
    acknowledged: list[Sent] = field(default_factory=list)
    unanswered: list[Sent] = field(default_factory=list)
    busy: int = 0
    stopping: bool = False
    _made: int = 0

    async def send(self, *ports: int) -> None:
        """Send without a pause until told to stop, or until no server is left.

        A client whose server is gone sends the same again to the next one.
        """
        workers = [self._client(random.Random(f"{self.seed} {n}"), n, ports) for n in range(CONNECTIONS)]
        await asyncio.gather(*workers)

    async def _client(self, dice: random.Random, number: int, ports: tuple[int, ...]) -> None:
        left = [*ports[number % len(ports) :], *ports[: number % len(ports)]]
        connection = Connection(left[0])
        request = self._request(dice)
        while not self.stopping:
            try:
                status, answer = await connection.post(request.body, request.path, request.headers)
            except (OSError, EOFError):
                connection.close()
                left.pop(0)
                if not left:
                    self.unanswered.append(request)
                    return
                connection = Connection(left[0])
                continue
            if status == 503:
                self.busy += 1
                continue
            assert status == 200, answer
            self.acknowledged.append(request)
            request = self._request(dice)
        connection.close()

    def _request(self, dice: random.Random) -> Sent:
        self._made += 1
        if dice.random() < COLLECT_SHARE:
            name = f"{self.name}-loose-{self._made}"
            return Sent("/collect/loose/web", f"Webhook-Id: {name}\r\n", b'{"a": 1}', (f"{name}/0",))
        # Every tenth visit is a new one; the others meet on a few sessions.
        number = dice.randrange(self.sessions) if dice.random() < 0.9 else 1000 + self._made
        session = f"{self.name}-{number}"
        ids = tuple(f"{session}-{self._made}-{n}" for n in range(dice.choice((1, 1, 1, 2, 5))))
        body = track_body(*("count" for _ in ids), session=session, ids=ids)
        return Sent("/track", "", json.dumps(body).encode(), ids)

    async def send_again(self, port: int, requests: list[Sent]) -> None:
        """Send requests until each is acknowledged."""
        waiting = list(requests)

        async def client() -> None:
            connection = Connection(port)
            while waiting:
                request = waiting.pop()
                status, answer = await connection.post(request.body, request.path, request.headers)
                if status == 503:
                    waiting.append(request)
                    continue
                assert status == 200, answer
                assert "errors" not in answer, answer
            connection.close()

        async with asyncio.timeout(60):
            await asyncio.gather(*(client() for _ in range(CONNECTIONS)))


def dump(file: Path) -> dict[str, list[Any]]:
    """Return every row of every table that a client can change."""
    tables = ("profiles", "sessions", "claims", "events", "failed", "effects", "timers", "traces")
    connection = sqlite3.connect(file)
    try:
        return {name: connection.execute(f"SELECT * FROM {name} ORDER BY n").fetchall() for name in tables}  # noqa: S608
    finally:
        connection.close()


def check_file(file: Path, *traffic: Traffic) -> None:
    """Check what stands in the file against what was sent and acknowledged.

    Every acknowledged event is there, none twice, no request by half, and every counter equals its events.
    """
    connection = sqlite3.connect(file)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        events = connection.execute(
            "SELECT id, profile, session, type FROM events WHERE type != ''"
        ).fetchall()
        profiles = [json.loads(doc) for (doc,) in connection.execute("SELECT doc FROM profiles")]
        sessions = [json.loads(doc) for (doc,) in connection.execute("SELECT doc FROM sessions")]
        failed = connection.execute("SELECT doc FROM failed").fetchall()
    finally:
        connection.close()
    stored = Counter(event_id for event_id, *_ in events)
    assert max(stored.values(), default=1) == 1
    for each in traffic:
        lost = [name for request in each.acknowledged for name in request.ids if name not in stored]
        assert not lost, f"{len(lost)} acknowledged events are lost"
        for request in each.unanswered:
            assert sum(name in stored for name in request.ids) in (0, len(request.ids)), request
    sent = {
        name for each in traffic for request in (*each.acknowledged, *each.unanswered) for name in request.ids
    }
    assert not stored.keys() - sent
    assert not failed
    by_profile = Counter(profile for _, profile, _, kind in events if kind == "count")
    counted = {doc["id"]: doc["stats"]["counters"]["seen"] for doc in profiles}
    assert counted == dict(by_profile)
    by_session = Counter(session for _, _, session, kind in events if kind == "count")
    assert {doc["id"]: doc["stats"]["events"] for doc in sessions} == dict(by_session)
    # One visit, one person: two first contacts at the same time made no second profile.
    assert len({(profile, session) for _, profile, session, kind in events if kind == "count"}) == len(
        by_session
    )
