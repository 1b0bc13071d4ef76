"""What the tests of the outbox share: a store with effects, and a sender that does what a test says."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headrace.engine.metrics import Metrics
from headrace.engine.model import Doc, iso, make_key, new_id, utc_now
from headrace.engine.outbox.retry import Outcome
from headrace.engine.outbox.worker import Outbox
from headrace.engine.settings import Settings
from headrace.engine.store.open import open_store
from headrace.engine.store.protocol import Change, Row, Store

SENT = Outcome("sent", 1.0, status=200)
Says = Callable[[Doc], Awaitable[Outcome]]


def effect(name: str, host: str = "one.example", created: datetime | None = None, **members: Any) -> Row:
    """Return an effect as a commit writes it."""
    at = iso(created or utc_now())
    key = make_key("effect", name)
    doc: Doc = {
        "id": key,
        "tenant": "main",
        "event": make_key("event", name),
        "workflow": "w",
        "version": "v",
        "node": "n",
        "profile": "p",
        "created": at,
        "source": "web",
        "request": {"url": f"https://{host}/{name}"},
        "ordered": False,
        "attempts": [],
        "status": "pending",
        "due": at,
        "response": None,
    }
    return Row(key, doc | members)


class Bench:
    """A store, an outbox over it, and what was sent."""

    def __init__(self, store: Store, says: Says, **settings: Any) -> None:
        self.store = store
        self.says = says
        self.sent: list[str] = []
        self.dead: list[Doc] = []
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.metrics = Metrics()
        self.bell = asyncio.Event()
        self.settings = Settings(**settings)
        self.outbox = self.another()

    def another(self) -> Outbox:
        """Return an outbox that shares the work, as one of another process does."""
        dice = random.Random(1)
        return Outbox(self.settings, self.store, self.metrics, self.bell, self._send, self._tell, dice=dice)

    async def _send(self, doc: Doc) -> Outcome:
        name = str(doc["request"]["url"]).rpartition("/")[2]
        host = str(doc["request"]["url"]).split("/")[2]
        self.now[host] += 1
        self.most[host] = max(self.most[host], self.now[host])
        try:
            outcome = await self.says(doc)
        finally:
            self.now[host] -= 1
        self.sent.append(name)
        return outcome

    async def _tell(self, doc: Doc) -> None:
        self.dead.append(doc)

    async def put(self, *rows: Row) -> None:
        """Commit effects and ring the bell."""
        await self.store.commit(Change(new_id(), "main", effects=list(rows)))
        self.bell.set()

    async def doc(self, name: str) -> Doc:
        """Return an effect as it is kept."""
        found = await self.store.get("effect", make_key("effect", name))
        assert found is not None
        return found

    async def until(self, name: str, seconds: float = 5, **members: Any) -> Doc:
        """Wait until an effect has some members."""
        async with asyncio.timeout(seconds):
            while True:
                doc = await self.doc(name)
                if members.items() <= doc.items():
                    return doc
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def running(self, *more: Outbox) -> AsyncIterator[None]:
        """Let the outbox run."""
        boxes = (self.outbox, *more)
        for box in boxes:
            box.start()
        try:
            yield
        finally:
            for box in boxes:
                await box.stop()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Give an empty embedded store."""
    store = open_store("sqlite:", data=tmp_path)
    yield store
    await store.close()


def ago(seconds: float) -> datetime:
    """Return a time in the past."""
    return utc_now() - timedelta(seconds=seconds)
