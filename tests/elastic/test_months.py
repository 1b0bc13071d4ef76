"""One index for the events of a month, whatever they claim; an id is known beyond the month's end."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headrace.engine.engine import Engine
from headrace.engine.model import Answer, Doc, EventInput, iso, utc_now
from headrace.engine.request import NEWEST, OLDEST
from headrace.engine.store.elastic import ElasticStore, gets
from headrace.engine.store.elastic.ageing import months
from headrace.engine.store.elastic.search import refresh
from headrace.engine.store.open import open_store
from headrace.engine.store.protocol import AskKind, Query
from tests.makers import chain, count, make_engine, make_request, write_workspace

FILES = {"count": chain("*", count())}
DEDUP_DAYS = 28


class Clock:
    """What the time is, for everything that asks `utc_now`."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def seconds(self) -> float:
        """Return it as `monotonic` does."""
        return self.now.timestamp()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for name, module in list(sys.modules.items()):
        if name.startswith("headrace.engine.") and getattr(module, "utc_now", None) is utc_now:
            monkeypatch.setattr(module, "utc_now", clock)
    # What is remembered for some seconds is not remembered for days.
    monkeypatch.setattr(gets, "monotonic", clock.seconds)
    return clock


@dataclass
class Server:
    """An engine on the cluster's store."""

    engine: Engine
    store: ElasticStore

    async def track(self, event: EventInput, **more: Any) -> Answer:
        return await self.engine.track(make_request(event, **more))

    async def all(self, kind: AskKind) -> list[Doc]:
        """Return all documents of a kind, oldest first, those too that only stand in their records yet."""
        assert await self.store._backlog.flush()
        await refresh(self.store._cluster, f"{self.store._cluster.place.prefix}-*")
        return (await self.store.find(Query(kind, limit=1000))).items[::-1]


class Place:
    """A cluster's store, and servers that come and go on it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.data = folder / "data"
        self.workspace = write_workspace(folder / "workspace", FILES)

    @asynccontextmanager
    async def server(self) -> AsyncIterator[Server]:
        store = open_store(self.url, data=self.data, dedup_days=DEDUP_DAYS)
        engine = make_engine(self.workspace, self.data, store=store)
        assert isinstance(store, ElasticStore)
        assert await store.ready() == ""
        try:
            yield Server(engine, store)
        finally:
            await engine.stop()


@pytest.fixture
def place(elastic_url: str, tmp_path: Path) -> Place:
    return Place(elastic_url, tmp_path)


async def months_of(lab: Server) -> list[str]:
    return [month.name[-7:] for month in await months(lab.store._cluster, "event")]


async def send(lab: Server, clock: Clock, id: str, **more: Any) -> None:
    time = more.pop("time", None)
    await lab.track(EventInput("x", {"n": 1}, id=id, time=time), received=clock.now, **more)


async def test_claimed_times_over_twenty_years(place: Place, clock: Clock) -> None:
    first = clock.now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    claimed = [iso(first - timedelta(days=30.4 * number)) for number in range(-24, 240)]
    async with place.server() as lab:
        for number, time in enumerate(claimed):
            # Sent from the first moment of a month to almost its last.
            clock.now = first + timedelta(hours=number * 2.5)
            await send(lab, clock, f"e{number}", time=time, session_id=f"s{number % 20}")
        assert await months_of(lab) == [f"{first:%Y.%m}"]
        found = await lab.all("event")
        assert sorted(one["id"] for one in found) == sorted(f"e{n}" for n in range(len(claimed)))
        for one in found:
            time = one["time"]
            assert time["claimed"] == claimed[int(one["id"][1:])]
            received, happened, said = (
                datetime.fromisoformat(time[name]) for name in ("received", "happened", "claimed")
            )
            assert happened == min(max(said, received - OLDEST), received + NEWEST)
        assert {one["time"]["happened"][:4] for one in found} <= {
            str(first.year + years) for years in (-2, -1, 0, 1)
        }
        # A list goes by the time of coming, not by what was claimed.
        times = [one["time"]["received"] for one in found]
        assert times == sorted(times)


ENDS = [
    (datetime(2026, 1, 31, 23, 59, 59, 900_000, UTC), timedelta(seconds=1)),
    (datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC), timedelta(hours=1)),
    (datetime(2028, 2, 29, 12, tzinfo=UTC), timedelta(days=1)),
    (datetime(2027, 1, 31, 23, 59, tzinfo=UTC), timedelta(days=DEDUP_DAYS)),
    (datetime(2027, 2, 1, tzinfo=UTC), timedelta(days=DEDUP_DAYS)),
    (datetime(2027, 2, 28, 23, 59, tzinfo=UTC), timedelta(days=DEDUP_DAYS)),
    (datetime(2026, 7, 15, tzinfo=UTC), timedelta(days=DEDUP_DAYS)),
]


@pytest.mark.parametrize(("first", "later"), ENDS, ids=lambda one: str(one).replace(":", "."))
async def test_sent_again_after_the_end_of_a_month(
    place: Place, clock: Clock, first: datetime, later: timedelta
) -> None:
    clock.now = first
    async with place.server() as lab:
        await send(lab, clock, "e")
        await send(lab, clock, "without", session_id=None, profile_less=True)
        await lab.track(EventInput("x", {"n": 1}, id="mark", save=False), received=clock.now)
        clock.now = first + later
        await all_again(lab, clock)
        async with place.server() as other:
            await all_again(other, clock)
        # Other ids, and the same id of another content, are no duplicates.
        await send(lab, clock, "new")
        (error,) = (await lab.track(EventInput("x", {"n": 2}, id="e"), received=clock.now)).errors
        assert error.code == "id_reused"
        assert sorted(one["id"] for one in await lab.all("event")) == ["e", "new", "without"]
        (profile,) = await lab.all("profile")
        assert profile["stats"]["counters"] == {"n": 3}
        assert await months_of(lab) == sorted({f"{time:%Y.%m}" for time in (first, first + later)})


async def all_again(lab: Server, clock: Clock) -> None:
    """Send everything again: in the same session, and in another."""
    for session in ("s1", "s2"):
        await send(lab, clock, "e", session_id=session)
        await lab.track(
            EventInput("x", {"n": 1}, id="mark", save=False), received=clock.now, session_id=session
        )
    await send(lab, clock, "without", session_id=None, profile_less=True)


async def test_sent_on_both_sides_of_midnight_at_once(place: Place, clock: Clock) -> None:
    """Two servers whose clocks differ a little take one event at the same moment."""
    clock.now = datetime(2026, 4, 1, tzinfo=UTC)
    before, after = clock.now - timedelta(milliseconds=1), clock.now
    async with place.server() as lab, place.server() as other:
        for number in range(5):
            event = EventInput("x", {"n": number}, id=f"e{number}")
            await asyncio.gather(
                lab.track(event, received=before, session_id=f"s{number}"),
                other.track(event, received=after, session_id=f"s{number}"),
                other.track(event, received=after, session_id=f"s{number}"),
            )
        assert sorted(one["id"] for one in await lab.all("event")) == [f"e{n}" for n in range(5)]
        counters = [one["stats"]["counters"]["n"] for one in await lab.all("profile")]
        assert counters == [1] * 5
