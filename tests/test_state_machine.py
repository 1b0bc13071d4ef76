"""Requests, crashes and restarts in any order, on every store, against a small model."""

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from contextvars import ContextVar, copy_context
from datetime import timedelta
from itertools import count
from pathlib import Path
from queue import Empty
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar, cast

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from headrace.engine import crash
from headrace.engine.crash import IDENTITY_POINTS, MERGE_POINTS, REQUEST_POINTS, set_crash_point
from headrace.engine.engine import Engine
from headrace.engine.errors import BusyError, StoreError
from headrace.engine.files.watch import LiveWorkspace
from headrace.engine.identity import detour
from headrace.engine.identity.merge import MERGE, UNMERGE
from headrace.engine.identity.unmerge import Apart
from headrace.engine.identity.values.decide import BY_CLAIMED
from headrace.engine.model import utc_now
from headrace.engine.settings import Settings
from headrace.engine.store.elastic import ElasticStore
from headrace.engine.store.elastic.bulk import Bulk
from headrace.engine.store.elastic.layout import alias
from headrace.engine.store.elastic.search import refresh
from headrace.engine.store.elastic.settle import Settler
from headrace.engine.store.elastic.setup import Setup
from headrace.engine.store.elastic.sweep import RECORDS, Sweeper
from headrace.engine.store.moving import MOVED
from headrace.engine.store.open import open_store
from headrace.engine.store.protocol import Leased, Query
from headrace.engine.store.sqlite import SqliteStore
from headrace.engine.store.upkeep import open_moving
from headrace.engine.timers.kinds import KINDS
from tests.drawn_requests import KNOWN, bodies, sign_ins
from tests.identity.model_of_stories import LIMITS
from tests.makers import catalog, write_workspace
from tests.model_of_identity import Story, check_exactly, check_identity
from tests.model_of_tracking import FILES, SECRET, TENANTS, Body, Docs, Join, Made, Sent, check

T = TypeVar("T")

LONGEST_SECONDS = 60.0
NAMES = ("A", "B")

UNMADE_SECONDS = 2.0
"""How long a profile may take here that a claim names already: nobody is as slow as a process in a hurry may be."""


def secret(name: str) -> str | None:
    return SECRET if name == "KEY" else None


class Crashed(BaseException):
    """Stands for the end of a process."""


class Process:
    """An engine with its store, as a process of its own would have them; it can die."""

    def __init__(self, name: str, store: Any, engine: Engine) -> None:
        self.name = name
        self.store = store
        self.engine = engine
        self.dead = asyncio.Event()
        self.never = asyncio.Event()
        self.under_way: set[asyncio.Future[Any]] = set()
        if isinstance(store, ElasticStore):
            self._ask = store._cluster.ask
            store._cluster.ask = self.ask  # type: ignore[method-assign]

    async def ask(self, *args: Any, **more: Any) -> bytes:
        """Ask the cluster; once the process is dead nothing is asked any more."""
        if self.dead.is_set():
            await self.never.wait()
        asked = asyncio.ensure_future(self._ask(*args, **more))
        self.under_way.add(asked)
        asked.add_done_callback(self.under_way.discard)
        return await asyncio.shield(asked)

    async def abandon(self) -> None:
        """End what is left of a process that died, without writing anything more."""
        self.dead.set()
        if isinstance(self.store, ElasticStore):
            # What was sent is done by the cluster, and nobody hears of it.
            await asyncio.gather(*self.under_way, return_exceptions=True)
            store = self.store
            forever = [*store._forever, *filter(None, [store._backlog._task])]
            for task in forever:
                task.cancel()
            await asyncio.gather(*forever, return_exceptions=True)
            await store._cluster.close()
            return
        writer = cast(SqliteStore, self.store)._writer
        with writer._lock:
            writer._gathered.clear()
        with suppress(Empty):
            while True:
                writer._queue.get_nowait()
        await self.store.close()


current: ContextVar[Process | None] = ContextVar("current", default=None)


class World:
    """A place for data, and processes that use it, on an event loop of the test."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.data = folder / "data"
        self.runner = asyncio.Runner()
        workspace = write_workspace(folder / "workspace", FILES)
        self.settings = Settings.load({}, workspace=workspace, data=self.data)
        self.live = LiveWorkspace(workspace, catalog(), secret)
        assert not self.live.refused
        self.tenants = count()
        self.numbers = count()
        self.processes: dict[str, Process] = {}
        self.crashes = 0
        self.merges = self.apart = 0
        self.identified: Counter[str] = Counter()
        self.abandoned: list[Process] = []

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(asyncio.wait_for(work, LONGEST_SECONDS))

    async def process(self, name: str) -> Process:
        """Return a process that runs."""
        if name not in self.processes:
            store: Any = open_store(self.url, data=self.data)
            engine = Engine(self.settings, store, self.live, secret)
            self.processes[name] = Process(name, store, engine)
            assert await store.ready() == ""
        return self.processes[name]

    async def stop(self, name: str) -> None:
        """End a process in good order."""
        if process := self.processes.pop(name, None):
            await process.engine.stop()

    def kill(self, *_: int) -> None:
        """Stand in for `os.kill` at a crash point: the process whose code it is dies."""
        set_crash_point("")
        self.crashes += 1
        thread = threading.current_thread()
        if thread is threading.main_thread():
            process = current.get()
            assert process is not None
            process.dead.set()
        else:
            (process,) = [one for one in self.processes.values() if one.store._writer._thread is thread]
            self.runner.get_loop().call_soon_threadsafe(process.dead.set)
        raise Crashed

    async def send(self, place: int, *sent: tuple[str, Sent], joins: Sequence[tuple[str, Join]] = ()) -> None:
        """Send requests to processes, and merge and un-merge profiles, all at the same time; note what was done."""
        tasks: dict[asyncio.Task[Any], tuple[Process, Sent | Join]] = {}
        both: list[tuple[str, Sent | Join]] = [*sent, *joins]
        for name, one in both:
            process = await self.process(name)
            context = copy_context()
            context.run(current.set, process)
            work = (
                one.work(process.engine)
                if isinstance(one, Join)
                else process.engine.track(one.request(place))
            )
            tasks[asyncio.get_running_loop().create_task(work, context=context)] = process, one
        dying = {asyncio.ensure_future(process.dead.wait()) for process in {p for p, _ in tasks.values()}}
        left = set(tasks)
        while left:
            await asyncio.wait({*left, *dying}, return_when=asyncio.FIRST_COMPLETED)
            for task in [one for one in left if not one.done() and tasks[one][0].dead.is_set()]:
                task.cancel()
                await asyncio.wait([task])
            left = {task for task in left if not task.done()}
            dying = {one for one in dying if not one.done()}
        for process in {process for process, _ in tasks.values()}:
            await self._finish(process)
        for waiting in dying:
            waiting.cancel()
        for task, (_, one) in tasks.items():
            self._note(task, one)
        for name in [name for name, process in self.processes.items() if process.dead.is_set()]:
            self.abandoned.append(self.processes.pop(name))
            await self.abandoned[-1].abandon()

    @staticmethod
    async def _finish(process: Process) -> None:
        """Let a process write what it had acknowledged before; it may die at that too, but not at anything later."""
        if process.dead.is_set():
            return
        loop = asyncio.get_running_loop()
        if isinstance(process.store, ElasticStore):
            context = copy_context()
            context.run(current.set, process)
            written = loop.create_task(process.store._backlog.flush(), context=context)
        else:
            # A death of the thread that writes, at a trace perhaps, is told to the loop before this is done.
            set_crash_point("")
            writer = cast(SqliteStore, process.store)._writer
            written = loop.create_task(writer.run(lambda _: True, beside=True))
        dies = asyncio.ensure_future(process.dead.wait())
        await asyncio.wait({written, dies}, return_when=asyncio.FIRST_COMPLETED)
        for one in (written, dies):
            one.cancel()

    def _note(self, task: asyncio.Task[Any], one: Sent | Join) -> None:
        try:
            answer = task.result()
        except (Crashed, asyncio.CancelledError, StoreError, BusyError) as error:
            one.refused = repr(error)
            return
        one.acknowledged = True
        if isinstance(one, Join):
            one.answer = answer
            self.merges += one.merged is not None and one.profile != one.other
            self.apart += isinstance(answer, Apart)
            return
        one.answered_profile = answer.profile["id"] if answer.profile else None

    async def sweep(self, tenant: str | None = None) -> None:
        """Finish what was left half done, merges too, as the workers of a process do, and look that nothing waits."""
        await self._sweep()
        if tenant is not None:
            await self._finish_merges(tenant)
            await self._sweep()

    async def _finish_merges(self, tenant: str) -> None:
        process = await self.process(NAMES[0])
        timers = (await process.store.find(Query("timer", tenant, status="pending", limit=1000))).items
        for doc in timers:
            if doc["kind"] in (MERGE, UNMERGE):
                done = await KINDS[doc["kind"]](process.engine.parts, Leased(doc["id"], doc, ""), utc_now())
                await process.store.amend("timer", doc["id"], lambda _, done=done: done)

    async def _sweep(self) -> None:
        process = await self.process(NAMES[0])
        if not isinstance(process.store, ElasticStore):
            return
        await process.store._backlog.flush()
        cluster = process.store._cluster
        await refresh(cluster, f"{cluster.place.prefix}-*")
        bulk = Bulk(cluster)
        await Sweeper(cluster, bulk, Settler(bulk)).sweep(timedelta(seconds=-1))
        await refresh(cluster, f"{cluster.place.prefix}-*")
        waiting = {"query": {"exists": {"field": "pending_since"}}, "size": 5}
        for kind in RECORDS:
            path = f"/{alias(cluster.place, kind)}/_search?ignore_unavailable=true&allow_no_indices=true"
            found = await cluster.ask_json("POST", path, waiting)
            assert not found["hits"]["hits"], f"{kind} wait after a sweep: {found}"

    async def docs(self, tenant: str) -> Docs:
        """Return everything that is kept of a tenant."""
        docs = Docs()
        moving = await open_moving(self.url, data=self.data, make=False)
        try:
            if not isinstance((await self.process(NAMES[0])).store, ElasticStore):
                await moving.settle()
            # Traces are kept as well as it goes.
            for kind in (kind for kind in MOVED if kind != "trace"):
                after = None
                while True:
                    batch = await moving.dump(kind, after, 1000)
                    for row in batch.rows:
                        if row.tenant == tenant:
                            docs.add(kind, row)
                    if (after := batch.after) is None:
                        break
        finally:
            await moving.close()
        return docs

    @property
    def said_much(self) -> bool:
        """Say whether people were made one, told from each other, and claimed by anybody, often enough."""
        told = self.identified
        by_claims = sum(number for what, number in told.items() if what.startswith(f"by {BY_CLAIMED}"))
        sure = sum(told[f"by {kind}"] for kind in LIMITS)
        return sure > 2 and told["trusted moved"] > 2 and bool(by_claims and told["trusted attached"])

    def close(self) -> None:
        for name in NAMES:
            self.do(self.stop(name))
        self.runner.close()


@pytest.fixture
def open_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], World]]:
    """Return what makes a world on the store of a URL, in which a crash ends a `Process` and not the test."""
    worlds: list[World] = []

    def opening(url: str) -> World:
        world = World(url, tmp_path)
        monkeypatch.setattr(crash, "os", SimpleNamespace(kill=world.kill, getpid=os.getpid))
        worlds.append(world)
        return world

    usual = threading.excepthook
    monkeypatch.setattr(
        threading, "excepthook", lambda said: None if said.exc_type is Crashed else usual(said)
    )
    put_templates, put = Setup.put_templates, set[str]()

    async def put_once(setup: Setup) -> None:
        # They are the same at every start; a cluster takes a second for them.
        if (prefix := setup._cluster.place.prefix) not in put:
            await put_templates(setup)
            put.add(prefix)

    monkeypatch.setattr(Setup, "put_templates", put_once)
    monkeypatch.setattr(detour, "UNMADE_SECONDS", UNMADE_SECONDS)
    yield opening
    set_crash_point("")
    for world in worlds:
        world.close()


PROCESS = st.sampled_from(NAMES)
Pair = tuple[int, int | None]
PAIR = st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(0, 9), st.integers(0, 9)))
"""Two profiles by number, the second None to take the first one out."""


SAYING_POINTS = (*IDENTITY_POINTS, *MERGE_POINTS[:3], *REQUEST_POINTS)
"""Where a process may die of which somebody says who it is."""


class Machine(RuleBasedStateMachine):
    """Sends, kills and restarts; at the end it looks at what is kept."""

    world: ClassVar[World]

    @initialize(calm=st.integers(0, 3).map(lambda drawn: drawn == 0))
    def begin(self, calm: bool) -> None:
        """Begin a story; in a calm one requests come one after another, and no process dies."""
        self.place = next(self.world.tenants)
        assert self.place < TENANTS, "more examples than tenants"
        self.tenant = f"t{self.place}"
        self.sent: list[Sent] = []
        self.joined: list[Join] = []
        self.calm = calm

    def joins(self, *drawn: tuple[str, Pair]) -> list[tuple[str, Join]]:
        """Return what is to be merged, or taken apart, of the profiles that somebody was told of."""
        told = dict.fromkeys(one.answered_profile for one in self.sent)
        ids = [profile for profile in told if profile is not None]
        merged = [one.merged for one in self.joined if one.merged is not None] or ids
        made = []
        for name, (first, second) in drawn if ids else ():
            if second is None:
                made.append((name, Join(self.tenant, merged[-first % len(merged)], None)))
            else:
                made.append((name, Join(self.tenant, ids[first % len(ids)], ids[second % len(ids)])))
        self.joined += [one for _, one in made]
        return made

    def make(self, body: Body) -> Sent:
        self.sent.append(Sent(next(self.world.numbers), body))
        return self.sent[-1]

    def send(self, *sent: tuple[str, Body]) -> list[Sent]:
        made = [(name, self.make(body)) for name, body in sent]
        self.world.do(self.world.send(self.place, *made))
        return [one for _, one in made]

    def send_well(self, *sent: tuple[str, Body]) -> None:
        """Send where nothing goes wrong, so that all must be acknowledged."""
        refused = [one for one in self.send(*sent) if not one.acknowledged]
        assert not refused, f"refused without a reason: {refused}"

    @precondition(lambda self: self.calm)
    @rule(name=PROCESS, body=bodies(calm=True))
    def calm_track(self, name: str, body: Body) -> None:
        self.send_well((name, body))

    @precondition(lambda self: not self.calm)
    @rule(name=PROCESS, body=bodies())
    def track(self, name: str, body: Body) -> None:
        self.send_well((name, body))

    @precondition(lambda self: not self.calm)
    @rule(several=st.lists(st.tuples(PROCESS, bodies()), min_size=2, max_size=5))
    def parallel_track(self, several: list[tuple[str, Body]]) -> None:
        self.send_well(*several)

    @precondition(lambda self: not self.calm)
    @rule(body=bodies(), both=st.booleans())
    def the_same_at_once(self, body: Body, both: bool) -> None:
        """One request that a client and a proxy sent at the same moment."""
        names = NAMES if both else ("A", "A")
        self.send_well(*((name, body) for name in names))

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), name=PROCESS)
    def resend(self, data: st.DataObject, name: str) -> None:
        body = self.sent[data.draw(st.integers(0, len(self.sent) - 1))].body
        self.send_well((name, body))

    @precondition(lambda self: not self.calm)
    @rule(
        several=st.lists(st.tuples(PROCESS, bodies()), min_size=1, max_size=3),
        point=st.sampled_from(REQUEST_POINTS),
        time=st.integers(1, 3),
    )
    def crash(self, several: list[tuple[str, Body]], point: str, time: int) -> None:
        set_crash_point(f"{point}:{time}")
        try:
            self.send(*several)
        finally:
            set_crash_point("")

    @precondition(lambda self: not self.calm)
    @rule(
        several=st.lists(st.tuples(PROCESS, sign_ins()), min_size=1, max_size=4),
        point=st.one_of(st.none(), st.sampled_from(SAYING_POINTS)),
        time=st.integers(1, 2),
    )
    def identify(self, several: list[tuple[str, Body]], point: str | None, time: int) -> None:
        """Some say who they are, at once, and perhaps one process dies at it."""
        set_crash_point(f"{point}:{time}" if point else "")
        try:
            sent = self.send(*several)
        finally:
            set_crash_point("")
        assert point or all(one.acknowledged for one in sent), f"refused without a reason: {sent}"

    @precondition(lambda self: not self.calm)
    @rule(
        several=st.lists(st.tuples(PROCESS, st.one_of(bodies(), sign_ins())), max_size=2),
        drawn=st.lists(st.tuples(PROCESS, PAIR), min_size=1, max_size=2),
        point=st.one_of(st.none(), st.sampled_from(MERGE_POINTS)),
    )
    def merge(
        self, several: list[tuple[str, Body]], drawn: list[tuple[str, Pair]], point: str | None
    ) -> None:
        """Some at once, while requests come in, and perhaps one process dies at it."""
        joins = self.joins(*drawn)
        made = [(name, self.make(body)) for name, body in several]
        set_crash_point(point or "")
        try:
            self.world.do(self.world.send(self.place, *made, joins=joins))
        finally:
            set_crash_point("")
        refused = (
            [one for _, one in made if not one.acknowledged],
            [one for _, one in joins if not one.acknowledged],
        )
        assert point or refused == ([], []), f"refused without a reason: {refused}"
        if point == "unmerge.undone":
            # Who says a value of one that is half taken out has to wait for a worker, which comes within a second.
            self.world.do(self.world.sweep(self.tenant))

    @rule(name=PROCESS)
    def restart(self, name: str) -> None:
        self.world.do(self.world.stop(name))

    @rule()
    def sweep(self) -> None:
        self.world.do(self.world.sweep(self.tenant))
        self.check(finished=False)

    def check(self, *, finished: bool) -> Docs:
        """Look at what is kept, and return it."""
        docs = self.world.do(self.world.docs(self.tenant))
        check(self.sent, docs, finished=finished)
        story = Story(self.tenant, self.sent, self.joined, self.calm)
        done = check_identity(story, docs)
        if self.calm:
            check_exactly(story, docs)
        if finished:
            self.world.identified += done
        return docs

    def teardown(self) -> None:
        if not hasattr(self, "sent"):
            return
        self.sweep()
        for one in [one for one in self.sent if not one.acknowledged]:
            self.send_well(("A", one.body))
        self.world.do(self.world.sweep(self.tenant))
        before = self.check(finished=True)
        for one in [one for one in self.sent if one.body.has_ids]:
            self.send_well(("B", one.body))
        self.world.do(self.world.sweep())
        after = self.world.do(self.world.docs(self.tenant))
        assert after.raw == before.raw, f"sent again: {_difference(before, after)}"


def _difference(before: Docs, after: Docs) -> str:
    gone = [one for one in before.raw if one not in after.raw]
    new = [one for one in after.raw if one not in before.raw]
    return f"gone {msgspec.json.encode(gone)!r}, new {msgspec.json.encode(new)!r}"


PARTED = Body(
    session="s3",
    profile_less=False,
    events=(
        Made("sign-in", "i-b-s3-8", "s1", customer="2"),
        Made("sign-in", "i-b-s3-14", "s1", customer="1"),
        Made("call", None, "s2"),
        Made("outer", "e-b-s3-2", "s2"),
    ),
    trusted=True,
)
"""One that is committed in two parts; of the second, one event comes again under another number as it has no id."""

STORIES, FEWEST_ROUNDS, MOST_ROUNDS = 10, 4, 16
"""How many stories are told in a round. They are drawn by chance: when few of them had a crash or a merge, more are."""


class TestEveryStore:
    @pytest.fixture(params=["sqlite", "elasticsearch"])
    def machine(self, request: pytest.FixtureRequest, open_world: Callable[[str], World]) -> type[Machine]:
        name = request.param
        url = "sqlite:" if name == "sqlite" else request.getfixturevalue("elastic_url")
        return type(f"Machine_{name}", (Machine,), {"world": open_world(url)})

    @pytest.mark.timeout(900)
    def test_any_story(self, machine: type[Machine]) -> None:
        world = machine.world
        for number in range(1, MOST_ROUNDS + 1):
            if settings().derandomize:
                # In CI each round has stories of its own, too, the same ones each time.
                seed(number)(machine)
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=STORIES,
                    stateful_step_count=15,
                    deadline=None,
                    # What depends on which process was faster does not come again when it is made smaller.
                    phases=[Phase.explicit, Phase.reuse, Phase.generate],
                    suppress_health_check=list(HealthCheck),
                ),
            )
            is_enough = world.crashes > 10 and world.merges + world.apart > 5 and world.said_much
            if is_enough and number >= FEWEST_ROUNDS:
                return
        pytest.fail("too few crashes, merges or moves to say anything")

    @pytest.mark.parametrize("point", REQUEST_POINTS)
    @pytest.mark.parametrize(
        "body", [*KNOWN[1:], PARTED], ids=lambda body: " ".join(one.type for one in body.events)
    )
    def test_one_that_died_in_the_middle(self, machine: type[Machine], point: str, body: Body) -> None:
        """Whatever a claim names that nobody made: who sends the event again makes it."""
        world = machine.world
        for time in (1, 2, 3):
            sent = [Sent(next(world.numbers), body) for _ in range(3)]
            place = next(world.tenants)
            set_crash_point(f"{point}:{time}")
            world.do(world.send(place, ("A", sent[0])))
            set_crash_point("")
            for name, one in zip(NAMES, sent[1:], strict=True):
                world.do(world.send(place, (name, one)))
                assert one.acknowledged, one
            world.do(world.sweep())
            check(sent, world.do(world.docs(f"t{place}")), finished=True)
