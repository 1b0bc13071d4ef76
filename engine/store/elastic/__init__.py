"""The store beyond one machine: Elasticsearch."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any, Literal

import structlog

from headrace.engine.errors import BusyError, StoreError
from headrace.engine.model import Doc, iso_now, utc_now
from headrace.engine.store.elastic.ageing import prune
from headrace.engine.store.elastic.ask import Questions
from headrace.engine.store.elastic.backlog import Backlog
from headrace.engine.store.elastic.belonging import owned
from headrace.engine.store.elastic.bulk import Bulk, Operation
from headrace.engine.store.elastic.cluster import AwayError, Cluster
from headrace.engine.store.elastic.commit import Committer
from headrace.engine.store.elastic.documents import doc_id, listed_source, workflow_source
from headrace.engine.store.elastic.due import Leases
from headrace.engine.store.elastic.erasing import Expunger, erase
from headrace.engine.store.elastic.gets import PATIENCE_SECONDS, Gets
from headrace.engine.store.elastic.keeping import Shown, give_back, reown
from headrace.engine.store.elastic.layout import INDEX_OF, alias, month_index
from headrace.engine.store.elastic.parts import create_line
from headrace.engine.store.elastic.place import Place
from headrace.engine.store.elastic.recent import Copies
from headrace.engine.store.elastic.records import Records
from headrace.engine.store.elastic.settle import THERE, WRITTEN, Settler
from headrace.engine.store.elastic.setup import Setup
from headrace.engine.store.elastic.sweep import Sweeper
from headrace.engine.store.protocol import (
    AmendKind,
    AskKind,
    Change,
    DueKind,
    Leased,
    NoteCommit,
    Outcome,
    OwnedKind,
    Page,
    Query,
    Ref,
    Row,
    Stored,
    Waiting,
    note_nothing,
)

MAX_WAITING = 4096
"""Changes at work at once; more are told to come again."""

FIRST_SECONDS = 8.0
"""How long the first requests wait for templates and indices."""

LOOK_EVERY_SECONDS = 0.5
SWEEP_EVERY_SECONDS = 5.0
CLOSE_SECONDS = 15.0
FLUSH_SECONDS = 5.0
"""How long closing waits for changes, and then for documents that stand in their records in any case."""

_log = structlog.get_logger(__name__)


class ElasticStore:
    """Keeps everything in a cluster. Open it by `open_store`; use it from one event loop at a time."""

    lags = True
    """Searches find a document a moment after it was written."""

    def __init__(
        self,
        place: Place,
        *,
        dedup_days: int,
        request_seconds: float,
        note_commit: NoteCommit = note_nothing,
    ) -> None:
        self._cluster = Cluster(place)
        self._bulk = Bulk(self._cluster, note_commit)
        self._gets = Gets(self._cluster, min(PATIENCE_SECONDS, request_seconds / 2))
        self._dedup_days = dedup_days
        copies = Copies()
        # What was acknowledged already does not stand in the way of what is to be.
        self._settler = Settler(Bulk(self._cluster))
        self._backlog = Backlog(self._settler, copies)
        self._records = Records(place, self._gets, dedup_days, copies, self._backlog)
        # Longer than any request may take: what was begun within its time may be answered as late as that.
        remember = request_seconds + max(request_seconds / 2, place.timeout + 1)
        self._committer = Committer(
            place, self._bulk, self._records, self._settler, self._backlog, int(remember * 1000)
        )
        self._questions = Questions(self._cluster, self._gets, dedup_days)
        self._leases = Leases(self._cluster, self._bulk, self._gets)
        self._setup = Setup(self._cluster)
        self._expunger = Expunger(self._cluster)
        self._shown = Shown(self._cluster, self._bulk, self._gets)
        self._tried = asyncio.Event()
        self._forever: list[asyncio.Task[None]] = []
        self._waiting = 0
        self._closed = False

    # The write path

    async def read(self, refs: Sequence[Ref], *, recent: bool = False) -> list[Stored | None]:
        """Return each document by its id, as it is now, or None. Raises StoreError."""
        if not self._is_open:
            await self._ask()
        return await self._records.read(refs, recent=recent)

    async def commit(self, change: Change) -> Outcome:
        """Write a change durably, whole or not at all. Raises StoreError, or BusyError when too many wait."""
        if self._waiting >= MAX_WAITING:
            raise BusyError(f"{self._waiting} changes wait for Elasticsearch already.")
        self._raise_closed()
        self._waiting += 1
        try:
            if not self._is_open:
                await self._begin()
            return await self._committer.commit(change)
        finally:
            self._waiting -= 1
            if change.effects:
                self._leases.wrote("effect")
            if change.timers:
                self._leases.wrote("timer")

    async def keep_workflow(self, row: Row) -> None:
        """Keep a version of a workflow's file durably, unless it is kept already. Raises StoreError."""
        where = alias(self._cluster.place, INDEX_OF["workflow"])
        line = create_line(where, doc_id(row.key))
        async with self._working():
            source = workflow_source(row, "main", iso_now())
            (done,) = await self._bulk.write([Operation(line, source)])
        if done.status not in (*WRITTEN, THERE):
            raise StoreError(f"Elasticsearch refused a workflow's version: {done.status} {done.reason}")

    async def keep_traces(self, traces: Sequence[Row]) -> None:
        """Keep traces; a failure is logged, not raised."""
        try:
            operations = [self._trace(row) for row in traces]
            async with self._working():
                await self._bulk.write(operations)
        except (StoreError, BusyError) as error:
            _log.warning("store.traces_dropped", traces=len(traces), error=str(error))

    def _trace(self, row: Row) -> Operation:
        now = utc_now().isoformat()
        where = month_index(self._cluster.place, "traces", now)
        source = listed_source(row, "traces", row.doc.get("tenant") or "main", None, now)
        return Operation(create_line(where, doc_id(row.key)), source)

    # Effects and timers

    async def claim_due(
        self, kind: DueKind, n: int, lease_seconds: float, now: datetime, *, newest: bool = False
    ) -> list[Leased]:
        """Hand out up to `n` pending documents that are due and that nobody holds, oldest or newest first."""
        # Whoever looks for work every second is no change that waits.
        await self._ask()
        await self._backlog.flush()
        return await self._leases.claim_due(kind, n, lease_seconds, now, newest=newest)

    async def done(self, kind: DueKind, leased: Leased, doc: Doc) -> bool:
        """Write what became of it and give the lease back; False when the lease was lost in between."""
        async with self._working():
            return await self._leases.done(kind, leased, doc)

    async def done_many(self, kind: DueKind, done: Sequence[tuple[Leased, Doc]]) -> list[bool]:
        """Do `done` for several documents with few requests."""
        async with self._working():
            return await self._leases.done_many(kind, done)

    async def amend(self, kind: AmendKind, key: str, change: Callable[[Doc], Doc | None]) -> Doc | None:
        """Change one document as it is now and return it; None when it is not there, or `change` returns None."""
        async with self._working():
            if self._backlog.holds([doc_id(key)]):
                await self._backlog.flush()
            where = await self._questions.where(kind, key)
            return None if where is None else await self._leases.amend(kind, where, key, change)

    # Questions

    async def waiting(self, kind: DueKind) -> Waiting:
        """Count what is pending, no further than 100,000, as of the last refresh."""
        await self._ask()
        return await self._leases.waiting(kind)

    async def get(self, kind: AskKind, key: str) -> Doc | None:
        """Return one document by its key, as it is now; another process's newest ones some moments later."""
        await self._ask()
        if self._backlog.holds([doc_id(key)]):
            await self._backlog.flush()
        return await self._questions.get(kind, key)

    async def find(self, query: Query) -> Page:
        """Return the newest documents that fit, a page at a time, as of the last refresh. Raises InputError."""
        await self._ask()
        return await self._questions.find(query)

    async def count(self, query: Query, at_most: int | None = None) -> int:
        """Return how many documents fit, counting no further than `at_most`, as of the last refresh."""
        await self._ask()
        return await self._questions.count(query, at_most)

    async def report(self, query: Query, by: Literal["type", "day", "source"]) -> list[Doc]:
        """Count events and distinct profiles by type, day (UTC) or source, as of the last refresh."""
        await self._ask()
        return await self._questions.report(query, by)

    async def erase(self, tenant: str, profile: str | Sequence[str]) -> dict[str, int]:
        """Delete profiles and all that belongs to them; returns how many of each kind went."""
        profiles = [profile] if isinstance(profile, str) else profile
        async with self._working():
            await self._backlog.flush()
            self._records.copies.clear()
            gone = await erase(self._cluster, self._bulk, self._gets, tenant, profiles)
            if any(gone.values()):
                self._expunger.ask()
            return gone

    async def owned(self, kind: OwnedKind, tenant: str, profiles: Sequence[str]) -> AsyncIterator[Doc]:
        """Yield what belongs to some profiles, as `erase` deletes it."""
        await self._ask()
        await self._backlog.flush()
        async for doc in owned(self._cluster, kind, tenant, profiles):
            yield doc

    async def catch_up(self, tenant: str, profiles: Sequence[str]) -> None:
        """Let questions find all events that were committed for some profiles until now."""
        async with self._working():
            await self._backlog.flush()
            await self._shown.catch_up(tenant, profiles)

    async def reown(self, tenant: str, loser: str, survivor: str) -> int:
        """Give the events, sessions and timers of one profile to another; returns how many."""
        async with self._working():
            await self._backlog.flush()
            self._records.copies.clear()
            return await reown(self._cluster, self._bulk, self._gets, tenant, loser, survivor)

    async def give_back(self, tenant: str, owners: Sequence[str], then: Sequence[str], profile: str) -> int:
        """Undo `reown` for what was of some profiles then; returns how many were moved."""
        async with self._working():
            await self._backlog.flush()
            self._records.copies.clear()
            others = [owner for owner in owners if owner != profile]
            return await give_back(self._cluster, self._bulk, self._gets, tenant, others, then, profile)

    async def prune(self, kind_days: Mapping[str, int], now: datetime) -> dict[str, int]:
        """Delete what is older than the days of its kind; returns how many of each kind went.

        Months of events that are old enough go whole. Profiles and sessions age from their last update, effects and
        timers only once they are done. The keys of events stay known for `dedup_days`. Raises ValueError for a kind
        that is not kept.
        """
        async with self._working():
            await self._backlog.flush()
            self._records.copies.clear()
            return await prune(self._cluster, self._bulk, kind_days, now, self._dedup_days)

    async def _ask(self) -> None:
        self._raise_closed()
        await self._begin()

    # Coming and going

    @asynccontextmanager
    async def _working(self) -> AsyncIterator[None]:
        """Count a write, so that closing waits for it."""
        self._raise_closed()
        self._waiting += 1
        try:
            await self._begin()
            yield
        finally:
            self._waiting -= 1

    @property
    def _is_open(self) -> bool:
        """Say whether the store was set up, is not closed, and the cluster answered last: nothing to look at then."""
        return self._setup.done and bool(self._forever) and not (self._closed or self._cluster.is_silent)

    async def _begin(self) -> None:
        """Wait until the store was set up. Raises StoreError when that failed, or the cluster is away."""
        if self._setup.done and self._forever:
            self._cluster.check()
            return
        self._start()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._tried.wait(), FIRST_SECONDS)
        if not self._setup.done:
            raise AwayError(f"Elasticsearch cannot be used now: {self._setup.text}")

    def _raise_closed(self) -> None:
        if self._closed:
            raise StoreError("The store is closed: the server is stopping.")

    def _start(self) -> None:
        """Begin the work beside the requests."""
        if not self._forever:
            sweeper = Sweeper(self._cluster, self._bulk, self._settler)
            loop = asyncio.get_running_loop()
            self._forever.append(loop.create_task(self._look(), name="headrace-look"))
            self._forever.append(loop.create_task(sweeper.run(SWEEP_EVERY_SECONDS), name="headrace-sweep"))

    async def _look(self) -> None:
        """Set the store up, and see to it that it stays so."""
        while True:
            await self._set_up()
            await self._watch()
            # Another index counts versions anew: one of the old must not be met in it.
            self._records.copies.clear()

    async def _set_up(self) -> None:
        """Try to set the store up until that is done."""
        said = ""
        while not await self._setup.run():
            self._tried.set()
            if said != self._setup.code:
                said = self._setup.code
                _log.warning("store.not_ready", code=said, error=self._setup.text)
            await asyncio.sleep(LOOK_EVERY_SECONDS)
        self._tried.set()

    async def _watch(self) -> None:
        """Look for a cluster that went away, so that requests need not try, until an index of ours is gone."""
        is_whole = True
        while is_whole:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            with suppress(StoreError):
                if self._cluster.is_silent:
                    await self._cluster.ask("GET", "/")
                elif self._cluster.misses_index:
                    is_whole = not await self._setup.gone()
                    self._cluster.misses_index = False

    async def ready(self) -> str:
        """Return "" when the store can take writes, else a short code."""
        if self._closed:
            return "closed"
        try:
            await self._begin()
        except StoreError:
            return self._setup.code or "store-away"
        return ""

    async def close(self) -> None:
        """Write what waits, then close. Closing twice does nothing."""
        self._closed, first = True, not self._closed
        if not first:
            return
        ends = asyncio.get_running_loop().time() + CLOSE_SECONDS
        while self._waiting and asyncio.get_running_loop().time() < ends:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.01)
        await self._backlog.close(FLUSH_SECONDS)
        await self._expunger.close()
        self._tried.set()
        for task in self._forever:
            task.cancel()
        await asyncio.gather(*self._forever, return_exceptions=True)
        await self._cluster.close()

    def describe(self) -> dict[str, Any]:
        """Return facts for /readyz and logs: kind, place, version, changes that wait."""
        return {
            "kind": "elasticsearch",
            "place": self._cluster.place.shown(),
            "version": self._setup.version,
            "waiting": self._waiting,
            "waiting_bytes": self._bulk.waiting_bytes,
            "waiting_documents": self._backlog.documents,
            "failure": self._setup.code or (self._cluster.trouble if self._cluster.is_away else ""),
        }
