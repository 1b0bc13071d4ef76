"""The embedded store: one SQLite file, one writer, many readers."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import structlog

from headrace.engine.errors import BusyError, InputError, StoreError
from headrace.engine.model import Doc, iso, utc_now
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
from headrace.engine.store.sqlite.apply import insert_rows
from headrace.engine.store.sqlite.ask import count_docs, find_page, get_doc, report_events
from headrace.engine.store.sqlite.due import amending, anything_due, claiming, count_waiting, finishing
from headrace.engine.store.sqlite.erasing import PARTS, belonging, erasing, owned_page, wipe_file
from headrace.engine.store.sqlite.files import connect, fault_code, fault_text, file_id, open_file
from headrace.engine.store.sqlite.keeping import (
    dropping,
    giving_back,
    old_rows,
    reowning,
    tenants_of,
    too_old,
)
from headrace.engine.store.sqlite.reader import read_refs
from headrace.engine.store.sqlite.recent import Recent
from headrace.engine.store.sqlite.rows import listed_rows, prepare, workflow_values
from headrace.engine.store.sqlite.schema import file_version
from headrace.engine.store.sqlite.writer import Writer

T = TypeVar("T")

ASK_SECONDS = 20.0
ASK_THREADS = 2
WRITER_KIB = 8192
READER_KIB = 4096
WIPE_SECONDS = 15.0
"""How long the log is tried to be cut after something was erased."""

_log = structlog.get_logger(__name__)


class SqliteStore:
    """Keeps everything in one SQLite file. Open it by `open_store`; use it from one event loop at a time."""

    lags = False
    """What is committed is found at once."""

    def __init__(
        self, path: Path, *, busy_seconds: float, dedup_days: int, note_commit: NoteCommit = note_nothing
    ) -> None:
        self._path = str(path)
        self._busy_seconds = busy_seconds
        self._dedup_days = dedup_days
        connection = open_file(path, busy_seconds, WRITER_KIB)
        self._file = file_id(self._path)
        self._version = file_version(connection)
        # Reads wait for nobody while the file is in use, so a short timeout here holds up no event loop.
        self._reader = connect(
            self._path, busy_seconds=min(busy_seconds, 1.0), cache_kib=READER_KIB, read_only=True
        )
        self._recent = Recent()
        self._writer = Writer(connection, self._path, self._recent, note_commit)
        self._threads = ThreadPoolExecutor(ASK_THREADS, thread_name_prefix="headrace-ask")
        # What nodes ask is about one profile and quick: it must not wait behind somebody's report.
        self._quick = ThreadPoolExecutor(1, thread_name_prefix="headrace-look")
        self._askers: list[sqlite3.Connection] = []
        self._local = threading.local()

    async def read(self, refs: Sequence[Ref], *, recent: bool = False) -> list[Stored | None]:
        """Return each document by its id, as it is now, or None. Raises StoreError.

        With `recent` a profile or session may be as this process wrote it last.
        """
        if self._writer.closed:
            raise StoreError(f"The database {self._path} is closed: the server is stopping.")
        try:
            return read_refs(self._reader, refs, self._recent if recent else None)
        except UnicodeEncodeError as error:
            raise _bad_text() from error
        except sqlite3.Error as error:
            raise self._fault(error) from error

    async def commit(self, change: Change) -> Outcome:
        """Write a change durably, whole or not at all. Raises StoreError, or BusyError when too many wait."""
        prepared = prepare(change)
        # Its documents may go now, not only when they are durable.
        del change
        return await self._writer.commit(prepared)

    async def keep_workflow(self, row: Row) -> None:
        """Keep a version of a workflow's file durably, unless it is kept already. Raises StoreError."""
        values = workflow_values(row, "main", iso(utc_now()))
        await self._writer.run(lambda connection: insert_rows(connection, "workflows", [values]), beside=True)

    async def keep_traces(self, traces: Sequence[Row]) -> None:
        """Keep traces; a failure is logged, not raised."""
        now = iso(utc_now())
        try:
            rows = [
                values
                for row in traces
                for values in listed_rows([row], "traces", row.doc.get("tenant") or "main", None, now)
            ]
            await self._writer.run(lambda connection: insert_rows(connection, "traces", rows), beside=True)
        except (StoreError, BusyError) as error:
            _log.warning("store.traces_dropped", traces=len(traces), error=str(error))

    async def claim_due(
        self, kind: DueKind, n: int, lease_seconds: float, now: datetime, *, newest: bool = False
    ) -> list[Leased]:
        """Hand out up to `n` pending documents that are due and that nobody holds, oldest or newest first."""
        try:
            if not anything_due(self._reader, kind, now):
                return []
        except sqlite3.Error as error:
            raise self._fault(error) from error
        return await self._writer.run(claiming(kind, n, lease_seconds, now, newest=newest), beside=True)

    async def done(self, kind: DueKind, leased: Leased, doc: Doc) -> bool:
        """Write what became of it and give the lease back; False when the lease was lost in between."""
        return (await self.done_many(kind, [(leased, doc)]))[0]

    async def done_many(self, kind: DueKind, done: Sequence[tuple[Leased, Doc]]) -> list[bool]:
        """Do `done` for several documents in one transaction."""
        return await self._writer.run(finishing(kind, done, utc_now()), beside=True)

    async def amend(self, kind: AmendKind, key: str, change: Callable[[Doc], Doc | None]) -> Doc | None:
        """Change one document as it is now and return it; None when it is not there, or `change` returns None."""
        return await self._writer.run(amending(kind, key, change, utc_now()), beside=True)

    async def waiting(self, kind: DueKind) -> Waiting:
        """Count what is pending, no further than 100,000."""
        return await self._ask(count_waiting, kind)

    async def get(self, kind: AskKind, key: str) -> Doc | None:
        """Return one document by its key."""
        return await self._ask(get_doc, kind, key)

    async def find(self, query: Query) -> Page:
        """Return the newest documents that fit, a page at a time. Raises InputError on a bad question."""
        return await self._ask(find_page, query, pool=self._pool(query))

    async def count(self, query: Query, at_most: int | None = None) -> int:
        """Return how many documents fit, counting no further than `at_most`."""
        return await self._ask(count_docs, query, at_most, pool=self._pool(query))

    async def report(self, query: Query, by: Literal["type", "day", "source"]) -> list[Doc]:
        """Count events and distinct profiles by type, day (UTC) or source."""
        return await self._ask(report_events, query, by)

    async def erase(self, tenant: str, profile: str | Sequence[str]) -> dict[str, int]:
        """Delete profiles and all that belongs to them, at once; returns how many of each kind went."""
        gone = await self._writer.run(erasing(tenant, [profile] if isinstance(profile, str) else profile))
        # Nothing may be left to delete, and yet of an erasure before, which ended with an error.
        await wipe_file(self._path, self._busy_seconds, WIPE_SECONDS)
        return gone

    async def owned(self, kind: OwnedKind, tenant: str, profiles: Sequence[str]) -> AsyncIterator[Doc]:
        """Yield what belongs to some profiles, as `erase` deletes it."""
        values = await self._ask(belonging, tenant, profiles, kind)
        for part in PARTS[kind]:
            docs, after = await self._ask(owned_page, part, values, 0)
            while docs:
                for doc in docs:
                    yield doc
                docs, after = await self._ask(owned_page, part, values, after)

    async def catch_up(self, tenant: str, profiles: Sequence[str]) -> None:
        """Do nothing: what is committed is found at once."""

    async def reown(self, tenant: str, loser: str, survivor: str) -> int:
        """Give the events, sessions and timers of one profile to another, some at a time; returns how many."""
        total = 0
        if loser != survivor:
            for job in reowning(tenant, loser, survivor):
                while moved := await self._writer.run(job):
                    total += moved
        return total

    async def give_back(self, tenant: str, owners: Sequence[str], then: Sequence[str], profile: str) -> int:
        """Undo `reown` for what was of some profiles then, some at a time; returns how many were moved."""
        total, others = 0, [owner for owner in owners if owner != profile]
        for job in giving_back(tenant, others, then, profile):
            looked = 1
            while looked:
                looked, moved = await self._writer.run(job)
                total += moved
        return total

    async def prune(self, kind_days: Mapping[str, int], now: datetime) -> dict[str, int]:
        """Delete what is older than the days of its kind, some at a time; returns how many of each kind went.

        Profiles and sessions age from their last update, effects and timers only once they are done. The keys
        of events stay known for `dedup_days`. Raises ValueError for a kind that is not kept.
        """
        gone: dict[str, int] = {}
        for old in too_old(dict(kind_days), now, self._dedup_days):
            gone[old.kind] = 0
            for tenant in await self._ask(tenants_of, old.table):
                while rows := await self._ask(old_rows, old, tenant):
                    gone[old.kind] += await self._writer.run(dropping(old, rows))
        return gone

    async def ready(self) -> str:
        """Return "" when the store can take writes, else a short code; after a fault by trying to write."""
        if self._writer.closed:
            return "closed"
        if not self._writer.is_alive():
            return "store-failed"
        if file_id(self._path) != self._file:
            return "file-gone"
        if self._writer.failure:
            try:
                await asyncio.wait_for(self._writer.run(_probe), timeout=self._busy_seconds + 1)
            except (StoreError, BusyError, TimeoutError):
                return self._writer.failure or "store-failed"
        return ""

    async def close(self) -> None:
        """Write what is queued, then close. Closing twice does nothing."""
        await self._writer.close()
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._quick.shutdown)
        while self._askers:
            self._askers.pop().close()
        self._reader.close()

    def describe(self) -> dict[str, Any]:
        """Return facts for /readyz and logs: kind, place, version of the tables, bytes, changes that wait."""
        sizes = {}
        for name, suffix in (("bytes", ""), ("log_bytes", "-wal")):
            file = Path(self._path + suffix)
            sizes[name] = file.stat().st_size if file.exists() else 0
        return {
            "kind": "sqlite",
            "path": self._path,
            "version": self._version,
            "sqlite": sqlite3.sqlite_version,
            "waiting": self._writer.waiting,
            "failure": self._writer.failure,
            **sizes,
        }

    def _pool(self, query: Query) -> ThreadPoolExecutor:
        return self._threads if query.profile is None else self._quick

    async def _ask(
        self, question: Callable[..., T], *parts: Any, pool: ThreadPoolExecutor | None = None
    ) -> T:
        """Answer a question in a thread of its own, so that a long one holds up nobody."""
        if self._writer.closed:
            raise StoreError(f"The database {self._path} is closed: the server is stopping.")
        try:
            return await asyncio.get_running_loop().run_in_executor(
                pool or self._threads, self._answer, question, parts
            )
        except UnicodeEncodeError as error:
            raise _bad_text() from error
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                detail = (
                    f"The answer took longer than {ASK_SECONDS:.0f} s. Ask for a shorter time or one type."
                )
                raise BusyError(detail) from error
            raise self._fault(error) from error

    def _answer(self, question: Callable[..., T], parts: Sequence[Any]) -> T:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            if file_id(self._path) != self._file:
                raise StoreError(fault_text(self._path, "file-gone"))
            connection = connect(
                self._path, busy_seconds=self._busy_seconds, cache_kib=READER_KIB, read_only=True
            )
            self._local.connection = connection
            self._askers.append(connection)
        deadline = time.monotonic() + ASK_SECONDS
        connection.set_progress_handler(lambda: time.monotonic() > deadline, 100_000)
        return question(connection, *parts)

    def _fault(self, error: sqlite3.Error) -> StoreError:
        """Return the error for a read that failed, after noting what is wrong with the store."""
        code = fault_code(error)
        if code:
            self._writer.failure = code
        _log.error("store.read_failed", path=self._path, code=code, error=str(error))
        return StoreError(fault_text(self._path, code, error))


def _bad_text() -> InputError:
    return InputError(422, "bad_text", "A text in the question is not valid Unicode.")


def _probe(connection: sqlite3.Connection) -> None:
    """Write as much as a few events are, in new pages."""
    connection.execute("DELETE FROM about WHERE name = 'probe'")
    connection.execute("INSERT INTO about (name, value) VALUES ('probe', zeroblob(32768))")
