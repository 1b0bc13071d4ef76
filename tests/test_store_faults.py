"""A store that fails, is late, or loses its answer: nothing is lost, nothing counts twice."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from headrace.engine.errors import BusyError, StoreError
from headrace.engine.model import EventInput
from headrace.engine.store.protocol import Change, Conflict, Outcome, Store
from tests.conftest import OpenLab
from tests.makers import Lab, chain, count


class Faulty:
    """A store that does with its next commits what a test says, and is right otherwise."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.plans: list[str] = []
        self.seen: list[Change] = []
        self.read_seconds = 0.0
        self.finds = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def read(self, refs: Any, *, recent: bool = False) -> Any:
        if self.read_seconds:
            await asyncio.sleep(self.read_seconds)
        return await self.inner.read(refs, recent=recent)

    async def find(self, query: Any) -> Any:
        if not self.finds:
            raise StoreError("the disk is gone")
        return await self.inner.find(query)

    async def commit(self, change: Change) -> Outcome:
        self.seen.append(change)
        plan = self.plans.pop(0) if self.plans else "right"
        if plan == "fails":
            raise StoreError("the disk is full")
        if plan == "conflict":
            return Conflict()
        if plan == "late":
            await asyncio.sleep(0.05)
        if plan == "too late":
            # The write is done, and its answer comes after the request's deadline.
            outcome = await self.inner.commit(change)
            await asyncio.sleep(4)
            return outcome
        outcome = await self.inner.commit(change)
        if plan == "reply lost":
            raise StoreError("the connection was reset")
        return outcome


@pytest.fixture
def faulty() -> list[Faulty]:
    return []


def wrapping(made: list[Faulty]) -> Callable[[Store], Any]:
    def wrap(store: Store) -> Any:
        made.append(Faulty(store))
        return made[-1]

    return wrap


FILES = {
    "count": chain("*", count(), ("defer", {})),
    "emit": chain("x", ("emit", {"given": ["inner"]}), count("session.context.seen.n")),
    "load": chain(
        "coupon",
        ("load_profile", {"id": "{{ event.properties.who }}"}),
        count("profile.stats.counters.coupons"),
    ),
}


def events(number: int = 3) -> list[EventInput]:
    return [EventInput("x", {"n": n}, id=f"e{n}") for n in range(number)]


async def sent_until_taken(lab: Lab, *sent: EventInput, **more: Any) -> None:
    """Send as a client does that sends again after a 503."""
    for _ in range(10):
        try:
            await lab.track(*sent, **more)
        except StoreError:
            continue
        return
    pytest.fail("never taken")


async def check_once(lab: Lab, number: int = 3) -> None:
    """Everything of `number` events is there, once."""
    docs = await lab.all("event")
    assert sorted(event["id"] for event in docs if event["door"] == "track") == [
        f"e{n}" for n in range(number)
    ]
    assert len(docs) == 2 * number
    assert await lab.counter() == 2 * number
    assert len(await lab.all("effect")) == len(await lab.all("timer")) == 2 * number
    session = await lab.one("session")
    # What was sent is 1; each event adds 1, once, whatever was tried again.
    assert session["context"] == {"seen": {"n": 1 + number}}
    assert session["stats"]["events"] == 2 * number
    assert all(event["context"] == {"seen": {"n": 1}} for event in docs)


@pytest.mark.requirement("000-17")
@pytest.mark.parametrize(
    "plans",
    [
        ["right"],
        ["fails"],
        ["fails", "fails", "fails"],
        ["late"],
        ["reply lost"],
        ["reply lost", "fails"],
        ["conflict"],
        ["conflict"] * 8,
        ["conflict", "fails", "conflict", "reply lost"],
        ["conflict", "late", "right"],
    ],
    ids=" ".join,
)
async def test_faults_of_commits(open_lab: OpenLab, faulty: list[Faulty], plans: list[str]) -> None:
    async with open_lab(FILES, wrapping(faulty), timers=False, outbox=False) as lab:
        faulty[0].plans = list(plans)
        await sent_until_taken(lab, *events(), context={"seen": {"n": 1}})
        await check_once(lab)
        # Everything sent again changes nothing.
        before = await lab.rows()
        await lab.track(*events(), context={"seen": {"n": 1}})
        assert await lab.rows() == before


async def test_a_commit_that_failed_acknowledged_nothing(open_lab: OpenLab, faulty: list[Faulty]) -> None:
    async with open_lab(FILES, wrapping(faulty)) as lab:
        faulty[0].plans = ["fails"]
        with pytest.raises(StoreError):
            await lab.track(*events())
        assert not any((await lab.rows()).values())
        assert len(lab.engine.parts.locks) == 0


async def test_an_answer_after_the_deadline(open_lab: OpenLab, faulty: list[Faulty]) -> None:
    async with open_lab(FILES, wrapping(faulty), request_deadline_seconds=3) as lab:
        assert await lab.store.ready() == ""
        faulty[0].plans = ["too late"]
        # The deadline waits while the store writes: 503 must mean that nothing was written.
        await lab.track(*events(), context={"seen": {"n": 1}})
        await check_once(lab)


async def test_without_ids_a_conflict_counts_once(open_lab: OpenLab, faulty: list[Faulty]) -> None:
    async with open_lab(FILES, wrapping(faulty), timers=False, outbox=False) as lab:
        faulty[0].plans = ["conflict", "conflict"]
        answer = await lab.track("y", "y")
        assert await lab.counter() == 2
        assert [event["id"] for event in await lab.all("event")] == answer.events
        assert len(answer.events) == 2
        assert len({change.id for change in faulty[0].seen}) == 3


async def test_a_fault_between_two_parts(open_lab: OpenLab, faulty: list[Faulty]) -> None:
    """The first part is durable, the second is not; the client sends it all again."""
    async with open_lab(FILES, wrapping(faulty)) as lab:
        ids = []
        for session in ("s1", "s2"):
            answer = await lab.track(session_id=session)
            assert answer.profile is not None
            ids.append(answer.profile["id"])
        coupons = [EventInput("coupon", {"who": who}, id=f"c{n}") for n, who in enumerate([*ids, ids[0]])]
        for plans in (["right", "fails"], ["right", "reply lost"], ["conflict", "right", "fails"]):
            faulty[0].plans = plans
            await sent_until_taken(lab, *coupons, session_id=None, profile_less=True)
        counts = {doc["id"]: doc["stats"]["counters"]["coupons"] for doc in await lab.all("profile")}
        assert counts == {ids[0]: 2, ids[1]: 1}
        assert len(await lab.all("event")) == 3


async def test_a_node_whose_look_up_fails_refuses_the_request(
    open_lab: OpenLab, faulty: list[Faulty]
) -> None:
    """An event that went on without what its workflow asked for would be lost to it."""
    files = {"past": chain("y", ("past", {}), count())}
    async with open_lab(files, wrapping(faulty)) as lab:
        faulty[0].finds = False
        with pytest.raises(StoreError):
            await lab.track(EventInput("x", id="e1"), EventInput("y", id="e2"))
        assert not any((await lab.rows()).values())
        assert len(lab.engine.parts.locks) == 0
        faulty[0].finds = True
        await lab.track(EventInput("x", id="e1"), EventInput("y", id="e2"))
        assert await lab.counter() == 1


async def test_reads_that_take_time_change_nothing(open_lab: OpenLab, faulty: list[Faulty]) -> None:
    async with open_lab({"count": chain("*", count())}, wrapping(faulty)) as lab:
        faulty[0].read_seconds = 0.002
        await asyncio.gather(*(lab.track("x") for _ in range(40)))
        assert await lab.counter() == 40
        assert (await lab.one("profile"))["stats"]["visits"] == 1


async def test_many_conflicts_end_at_the_deadline(open_lab: OpenLab, faulty: list[Faulty]) -> None:
    async with open_lab(FILES, wrapping(faulty), request_deadline_seconds=2) as lab:
        assert await lab.store.ready() == ""
        faulty[0].plans = ["conflict"] * 10_000
        with pytest.raises(BusyError):
            await lab.track("x")
        # It does not spin meanwhile.
        assert len(faulty[0].seen) < 200
        assert not any((await lab.rows()).values())
