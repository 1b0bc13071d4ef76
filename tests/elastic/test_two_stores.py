"""Two stores on one place, and a cluster that fails, answers late, or does what it said it had not."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator
from datetime import timedelta
from itertools import chain, count
from typing import Any, ClassVar, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    rule,
    run_state_machine_as_test,
)

from headrace.engine.errors import BusyError, StoreError
from headrace.engine.model import Doc, new_id
from headrace.engine.store.elastic import ElasticStore, gets
from headrace.engine.store.elastic.bulk import Bulk
from headrace.engine.store.elastic.cluster import AwayError, Cluster
from headrace.engine.store.elastic.layout import alias
from headrace.engine.store.elastic.place import read_place
from headrace.engine.store.elastic.search import refresh
from headrace.engine.store.elastic.settle import Settler
from headrace.engine.store.elastic.sweep import RECORDS, Sweeper
from headrace.engine.store.protocol import Change, Committed, Ref, Row, Stored, Write
from tests.store_contract import event_row, key_of, profile_write, session_write

T = TypeVar("T")

LONGEST_SECONDS = 60.0
PATIENCE_SECONDS = 0.12
LATE_SECONDS = 0.12

FAULTS = st.sampled_from(["right", "right", "fails", "lost", "late", "ghost"])
"""What becomes of a request: it never comes there, its answer is lost, its answer is late, or the client gives it up
and it is done after all, a little later."""


class Cluttered:
    """Stands before a cluster's `ask` and does what it is told with each write."""

    def __init__(self, cluster: Cluster) -> None:
        self.ask = cluster.ask
        self.plans: list[str] = []
        self.ghosts: list[asyncio.Future[Any]] = []

    async def __call__(self, method: str, path: str, *args: Any, **more: Any) -> bytes:
        plan = self.plans.pop(0) if self.plans and path.startswith(("/_bulk", "/_mget")) else "right"
        if plan == "fails":
            raise AwayError("the connection was refused")
        if plan == "ghost":
            self.ghosts.append(asyncio.ensure_future(self._later(method, path, *args, **more)))
            raise AwayError("no answer in time")
        answer = await self.ask(method, path, *args, **more)
        if plan == "lost":
            raise AwayError("the connection was reset")
        if plan == "late":
            await asyncio.sleep(LATE_SECONDS)
        return answer

    async def _later(self, *args: Any, **more: Any) -> None:
        await asyncio.sleep(LATE_SECONDS)
        await self.ask(*args, **more)


class Two:
    """Two stores on one place, on an event loop of the test."""

    def __init__(self, url: str) -> None:
        self.runner = asyncio.Runner()
        self.numbers = count()
        place = read_place(url)
        self.stores = [ElasticStore(place, dedup_days=28, request_seconds=10) for _ in range(2)]
        self.faults = [Cluttered(store._cluster) for store in self.stores]
        for store in self.stores:
            assert self.do(store.ready()) == ""
        for store, faults in zip(self.stores, self.faults, strict=True):
            store._cluster.ask = faults  # type: ignore[method-assign]
        self.outcomes: Counter[str] = Counter()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(asyncio.wait_for(work, LONGEST_SECONDS))

    async def commit(self, number: int, change: Change, plans: list[str]) -> str:
        """Return what became of a change: committed, not, or unknown."""
        self.faults[number].plans = plans
        try:
            outcome = await self.stores[number].commit(change)
        except (StoreError, BusyError):
            said = "unknown"
        else:
            said = "committed" if isinstance(outcome, Committed) else "lost"
        self.outcomes[said] += 1
        return said

    async def read(self, number: int, refs: list[Ref]) -> list[Stored | None]:
        self.faults[number].plans = []
        return await self.stores[number].read(refs, recent=True)

    async def sweep(self) -> None:
        for faults in self.faults:
            faults.plans = []
            await asyncio.gather(*faults.ghosts, return_exceptions=True)
            faults.ghosts.clear()
        cluster = self.stores[0]._cluster
        bulk = Bulk(cluster)
        await refresh(cluster, f"{cluster.place.prefix}-*")
        await Sweeper(cluster, bulk, Settler(bulk)).sweep(timedelta(seconds=-1))
        await refresh(cluster, f"{cluster.place.prefix}-*")

    async def sources(self, kind: str, tenant: str) -> list[Doc]:
        """Return a kind's sources, as they are kept."""
        cluster = self.stores[0]._cluster
        body = {"size": 1000, "query": {"term": {"tenant": tenant}}}
        path = f"/{alias(cluster.place, kind)}/_search?ignore_unavailable=true&allow_no_indices=true"
        answer = msgspec.json.decode(await cluster.ask("POST", path, msgspec.json.encode(body)))
        return [hit["_source"] for hit in answer["hits"]["hits"]]

    def close(self) -> None:
        for store in self.stores:
            self.do(store.close())
        self.runner.close()


class Planned(msgspec.Struct):
    """A change of one store that was made ready from what was read, some time before it is committed."""

    number: int
    change: Change
    shape: str


class Machine(RuleBasedStateMachine):
    """Prepares and commits; each document lists the changes that wrote it, and each event names its own."""

    two: ClassVar[Two]
    ready = Bundle("ready")

    @initialize()
    def begin(self) -> None:
        self.name = f"{next(self.two.numbers)}"
        self.said: dict[str, tuple[str, Planned]] = {}

    @rule(
        target=ready,
        number=st.integers(0, 1),
        shape=st.sampled_from(["both", "both", "profile", "session", "neither"]),
        events=st.sets(st.integers(0, 3), min_size=1, max_size=3),
    )
    def prepare(self, number: int, shape: str, events: set[int]) -> Planned:
        return self.two.do(self._prepare(number, shape, sorted(events)))

    async def _prepare(self, number: int, shape: str, events: list[int]) -> Planned:
        p, s = f"p{self.name}", f"s{self.name}"
        # What one client sends again it sends alike: its event has a visitor both times, or none.
        of = "visitor" if shape in ("both", "profile") else shape
        # Without one each event is for itself.
        wanted = events[:1] if shape == "neither" else events
        rows = [event_row(f"{self.name}-{of}-{n}") for n in wanted]
        refs = [Ref("seen", row.key) for row in rows]
        refs += [Ref("profile", self.key("profile", p)), Ref("session", self.key("session", s))]
        *seen, profile, session = await self.two.read(number, refs)
        id = new_id()
        new = [
            Row(row.key, row.doc | {"properties": {"by": id}})
            for row, stored in zip(rows, seen, strict=True)
            if stored is None
        ]
        change = Change(id, f"t{self.name}", events=new, seconds=PATIENCE_SECONDS)
        if shape in ("both", "profile"):
            change.profile = self._write(profile_write(p, profile), id)
        if shape in ("both", "session"):
            if session is not None and session.doc.get("claimed"):
                claimed = session_write(s, session.doc["profile"])
                change.session = self._write(Write(claimed.key, claimed.doc, session.version), id)
            else:
                owner = session.doc["profile"] if session else None
                change.session = self._write(session_write(s, owner, session), id)
            if shape == "both":
                change.session.doc["profile"] = p
        return Planned(number, change, shape)

    def key(self, kind: str, name: str) -> str:
        return key_of(kind, name, f"t{self.name}")

    def _write(self, write: Write, id: str) -> Write:
        write.key = self.key("session" if "visitor" in write.doc else "profile", write.doc["id"])
        write.doc["by"] = [*write.doc.get("by", []), id]
        return write

    @rule(planned=consumes(ready), plans=st.lists(FAULTS, max_size=12))
    def commit(self, planned: Planned, plans: list[str]) -> None:
        said = self.two.do(self.two.commit(planned.number, planned.change, plans))
        self.said[planned.change.id] = said, planned

    @rule(one=consumes(ready), other=consumes(ready), plans=st.lists(FAULTS, max_size=12))
    def commit_at_once(self, one: Planned, other: Planned, plans: list[str]) -> None:
        async def both() -> tuple[str, str]:
            return await asyncio.gather(
                self.two.commit(one.number, one.change, plans),
                self.two.commit(other.number, other.change, plans[::-1]),
            )

        if one.change.id != other.change.id:
            for planned, said in zip((one, other), self.two.do(both()), strict=True):
                self.said[planned.change.id] = said, planned

    @rule()
    def sweep(self) -> None:
        self.two.do(self.two.sweep())
        self.check()

    def teardown(self) -> None:
        if hasattr(self, "said"):
            self.sweep()
            for kind in RECORDS:
                waiting = self.two.do(self.two.sources(kind, f"t{self.name}"))
                assert not [one for one in waiting if "pending_since" in one], "something waits after a sweep"

    def check(self) -> None:
        """Each change is there whole and once, or not at all; as it was said."""
        tenant = f"t{self.name}"
        events = {one["key"]: one["doc"] for one in self.two.do(self.two.sources("events", tenant))}
        profiles, sessions = (
            [one["doc"].get("by", []) for one in self.two.do(self.two.sources(kind, tenant)) if "doc" in one]
            for kind in ("profiles", "sessions")
        )
        assert len(profiles) <= 1
        assert len(sessions) <= 1
        of_profile, of_session = list(chain(*profiles)), list(chain(*sessions))
        assert len(set(of_profile)) == len(of_profile), "a change wrote a profile twice"
        assert len(set(of_session)) == len(of_session), "a change wrote a session twice"
        story = [(id[:4], said, planned.shape) for id, (said, planned) in self.said.items()]
        of = f"{[id[:4] for id in of_profile]} {[id[:4] for id in of_session]} of {story}"
        for id, (said, planned) in self.said.items():
            change = planned.change
            there = [events.get(row.key, {}).get("properties") == {"by": id} for row in change.events]
            there += [id in of_profile] if change.profile else []
            there += [id in of_session] if change.session else []
            if said == "committed":
                assert all(there), f"committed, and not there: {id[:4]} {there} {of}"
            elif said == "lost":
                assert not any(there), f"lost, and there: {id[:4]} {there} {of}"
            else:
                assert all(there) or not any(there), f"there by half: {id[:4]} {there} {of}"
        known = set(self.said)
        assert {*of_profile, *of_session} <= known, "a change that nobody made"


@pytest.fixture
def machine(elastic_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Machine]]:
    # A write that is tried for long enough comes there in the end; here it does not always.
    assert Bulk.write.__kwdefaults__ is not None
    monkeypatch.setitem(Bulk.write.__kwdefaults__, "patience", PATIENCE_SECONDS)
    monkeypatch.setattr(gets, "PATIENCE_SECONDS", PATIENCE_SECONDS)
    two = Two(elastic_url)
    yield type("MachineHere", (Machine,), {"two": two})
    two.close()


@pytest.mark.timeout(600)
def test_any_faults(machine: type[Machine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=20,
            deadline=None,
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert min(machine.two.outcomes[said] for said in ("committed", "lost", "unknown")) > 3
