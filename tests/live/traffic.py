"""Clients that send events, remember the answers, and check the file."""

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from time import monotonic

from tests.live.connection import Connection
from tests.live.server import track_body
from tests.stores import Place

CONNECTIONS = 8
PAUSE_SECONDS = 0.1
"""Before what was refused for a while is sent again: a tenth of what we are told, and little work meanwhile."""

COLLECT_SHARE = 0.1

REACHED_SECONDS = 60.0
"""Until some hundred requests are acknowledged, on a machine that is busy with other tests."""


@dataclass(frozen=True)
class Sent:
    """One request with the ids that its events have."""

    path: str
    headers: str
    body: bytes
    ids: tuple[str, ...]


@dataclass
class Traffic:
    """Everything that was sent to servers on one store; `name` keeps its ids apart from those of other traffic.

    What was refused for a while, and not sent again, is unanswered: nobody said that it is not there. `slowest` is the
    longest that an answer took, in seconds.
    """

    name: str
    seed: int
    sessions: int = 12
    acknowledged: list[Sent] = field(default_factory=list)
    unanswered: list[Sent] = field(default_factory=list)
    busy: int = 0
    slowest: float = 0.0
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
        request, is_open = self._request(dice), False
        while not self.stopping:
            began = monotonic()
            try:
                status, answer = await connection.post(request.body, request.path, request.headers)
            except (OSError, EOFError):
                connection.close()
                left.pop(0)
                if not left:
                    self.unanswered.append(request)
                    return
                # The one that is gone may have taken it, also when the end comes before it is sent again.
                connection, is_open = Connection(left[0]), True
                continue
            self.slowest = max(self.slowest, monotonic() - began)
            if status == 503:
                self.busy += 1
                is_open = True
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            assert status == 200, answer
            self.acknowledged.append(request)
            request, is_open = self._request(dice), False
        if is_open:
            self.unanswered.append(request)
        connection.close()

    async def reach(self, number: int, seconds: float = REACHED_SECONDS) -> None:
        """Wait until so many requests were acknowledged. Raises AssertionError when that takes too long."""
        until = monotonic() + seconds
        while len(self.acknowledged) < number:
            assert monotonic() < until, f"{len(self.acknowledged)} of {number}, refused {self.busy}"
            await asyncio.sleep(0.02)

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
                    await asyncio.sleep(PAUSE_SECONDS)
                    continue
                assert status == 200, answer
                assert "errors" not in answer, answer
            connection.close()

        async with asyncio.timeout(180):
            await asyncio.gather(*(client() for _ in range(CONNECTIONS)))


def check_place(place: Place, *traffic: Traffic) -> None:
    """Check what stands in a store against what was sent and acknowledged.

    Every acknowledged event is there, none twice, no request by half, and every counter equals its events.
    """
    events = place.docs("events")
    stored = Counter(event["id"] for event in events)
    assert max(stored.values(), default=1) == 1
    for each in traffic:
        lost = [name for request in each.acknowledged for name in request.ids if name not in stored]
        assert not lost, f"{len(lost)} acknowledged events are lost: {lost[:5]}"
        for request in each.unanswered:
            assert sum(name in stored for name in request.ids) in (0, len(request.ids)), request
    sent = {
        name for each in traffic for request in (*each.acknowledged, *each.unanswered) for name in request.ids
    }
    assert not stored.keys() - sent
    assert not place.docs("failed")
    counting = [event for event in events if event["type"] == "count"]
    counted = {doc["id"]: doc["stats"]["counters"]["seen"] for doc in place.docs("profiles")}
    assert counted == Counter(event["profile"] for event in counting)
    by_session = Counter(event["session"] for event in counting)
    assert {doc["id"]: doc["stats"]["events"] for doc in place.docs("sessions")} == by_session
    # One visit, one person: two first contacts at the same time made no second profile.
    assert len({(event["profile"], event["session"]) for event in counting}) == len(by_session)
