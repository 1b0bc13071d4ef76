"""The one thread that writes, many changes in one transaction."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import structlog

from headrace.engine.crash import crash_point
from headrace.engine.errors import BusyError, StoreError
from headrace.engine.store.protocol import NoteCommit, Outcome
from headrace.engine.store.sqlite.apply import Known, apply_batch
from headrace.engine.store.sqlite.files import DAMAGED, fault_code, fault_text, file_id
from headrace.engine.store.sqlite.recent import Recent
from headrace.engine.store.sqlite.rows import Prepared

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], Any]

MAX_BATCH = 256
MAX_WAITING = 4096

MANY = 4
STEP_SECONDS = 0.001
MOST_STEPS = 4
"""When so many changes wait, more are about to come: a transaction that takes them along costs hardly more than one
that does not. They are waited for step by step, as long as the last step brought any."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Waiting:
    """A change, or a job for a transaction of its own, and whoever waits for what becomes of it.

    `beside` says that a job touches neither profiles nor sessions nor events.
    """

    work: Prepared | Job
    future: asyncio.Future[Any]
    beside: bool = False


class Writer:
    """Takes changes and jobs from any event loop and answers after their commit."""

    def __init__(
        self, connection: sqlite3.Connection, path: str, recent: Recent, note_commit: NoteCommit
    ) -> None:
        self._connection = connection
        self._path = path
        self._recent = recent
        self._note_commit = note_commit
        self._file = file_id(path)
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._held: _Waiting | None = None
        self._gathered: list[_Waiting] = []
        self._known = Known()
        self._data_version = _data_version(connection)
        self._lock = threading.Lock()
        self.waiting = 0
        self.closed = False
        self.failure = ""
        self._thread = threading.Thread(target=self._work, name="headrace-store", daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        """Say whether the thread runs."""
        return self._thread.is_alive()

    async def commit(self, change: Prepared) -> Outcome:
        """Write a change together with what else waits. Raises StoreError; BusyError if too many wait."""
        outcome: Outcome = await self._put(change)
        return outcome

    async def run(self, job: Callable[[sqlite3.Connection], T], *, beside: bool = False) -> T:
        """Run a job within a transaction of its own and return its result. Raises StoreError, BusyError.

        With `beside` it touches neither profiles nor sessions nor events, so that what is known of them stays true.
        """
        result: T = await self._put(job, beside=beside)
        return result

    def _put(self, work: Prepared | Job, *, beside: bool = False) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().create_future()
        with self._lock:
            if self.closed:
                msg = f"The database {self._path} is closed: the server is stopping."
                raise StoreError(msg)
            if self.failure == DAMAGED:
                raise StoreError(fault_text(self._path, DAMAGED))
            if self.waiting >= MAX_WAITING:
                raise BusyError(f"{self.waiting} changes wait for the database already.")
            self.waiting += 1
            self._gathered.append(_Waiting(work, future, beside))
            if len(self._gathered) == 1:
                future.get_loop().call_soon(self._hand_over)
        return future

    def _hand_over(self) -> None:
        """Give the thread all that came in one turn of the loop, since many changes are written as cheaply as one."""
        with self._lock:
            for one in self._gathered:
                self._queue.put(one)
            self._gathered.clear()

    async def close(self) -> None:
        """Write what waits, then end the thread and close its connection."""
        self._hand_over()
        with self._lock:
            first, self.closed = not self.closed, True
            if first:
                self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()

    def _work(self) -> None:
        while batch := self._next_batch():
            try:
                results = self._write(batch)
            except Exception as error:  # noqa: BLE001 - the thread must live on, and nobody may wait for ever
                _log.exception("store.fault", path=self._path)
                results = [StoreError(fault_text(self._path, "", error))] * len(batch)
            self._answer(batch, results)

    def _next_batch(self) -> list[_Waiting]:
        """Wait for work; return one job, or all changes that wait, or nothing when it is time to end."""
        first = self._held or self._queue.get()
        self._held = None
        if first is None:
            return []
        batch = [first]
        if not isinstance(first.work, Prepared):
            return batch
        self._gather()
        with suppress(Empty):
            while len(batch) < MAX_BATCH:
                one = self._queue.get_nowait()
                if one is None:
                    self._queue.put(None)
                    break
                if not isinstance(one.work, Prepared):
                    self._held = one
                    break
                batch.append(one)
        return batch

    def _gather(self) -> None:
        """Give more changes a moment to come, when many are under way."""
        for _ in range(MOST_STEPS):
            before = self.waiting
            if before < MANY or self.closed:
                return
            time.sleep(STEP_SECONDS)
            if self.waiting == before:
                return

    def _write(self, batch: Sequence[_Waiting]) -> list[Any]:
        """Write a batch in one transaction; return an outcome or an error for each."""
        try:
            results = self._transaction(batch)
        except (sqlite3.Error, UnicodeEncodeError, OverflowError, StoreError) as error:
            code = "file-gone" if str(error) == "file-gone" else fault_code(error)
            if not code and len(batch) > 1:
                # One of them is to blame: each for itself.
                return [result for one in batch for result in self._write([one])]
            if code:
                self.failure = code
            _log.error(
                "store.write_failed",
                path=self._path,
                code=code or "change",
                error=str(error),
                changes=len(batch),
            )
            return [StoreError(fault_text(self._path, code, None if code == "file-gone" else error))] * len(
                batch
            )
        # A damaged file stays damaged.
        if self.failure != DAMAGED:
            self.failure = ""
        return results

    def _transaction(self, batch: Sequence[_Waiting]) -> list[Any]:
        connection = self._connection
        if file_id(self._path) != self._file:
            # What is written to a file that has no name is lost at the next start.
            raise StoreError("file-gone")
        self._end_transaction()
        began = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        try:
            self._notice_others()
            results = self._apply(batch)
            crash_point("store.before_commit")
            connection.execute("COMMIT")
        except BaseException:
            self._known.forget()
            # The first fault is the one to tell of; what is left open is ended before the next batch.
            with suppress(sqlite3.Error):
                self._end_transaction()
            raise
        crash_point("store.after_commit")
        if isinstance(batch[0].work, Prepared):
            self._note_commit(len(batch), time.perf_counter() - began)
        return results

    def _notice_others(self) -> None:
        """Forget what is known of the tables when another process wrote since the last transaction."""
        version = _data_version(self._connection)
        if version != self._data_version:
            self._data_version = version
            self._known.forget()
            self._recent.others_wrote()
        else:
            self._recent.checked()

    def _end_transaction(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _apply(self, batch: Sequence[_Waiting]) -> list[Any]:
        work = batch[0].work
        if not isinstance(work, Prepared):
            if not batch[0].beside:
                self._known.forget()
            return [work(self._connection)]
        changes = [one.work for one in batch if isinstance(one.work, Prepared)]
        return list(apply_batch(self._connection, changes, self._known))

    def _answer(self, batch: Sequence[_Waiting], results: Sequence[Any]) -> None:
        """Hand the results over, with one call for each event loop."""
        with self._lock:
            self.waiting -= len(batch)
        loops: dict[asyncio.AbstractEventLoop, list[tuple[_Waiting, Any]]] = {}
        for one, result in zip(batch, results, strict=True):
            loops.setdefault(one.future.get_loop(), []).append((one, result))
        for loop, answers in loops.items():
            # A loop that was closed in between has nobody left who waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._resolve, answers)

    def _resolve(self, answers: Sequence[tuple[_Waiting, Any]]) -> None:
        """Wake those who wait, on their loop and in the order of the writes."""
        for one, result in answers:
            if isinstance(one.work, Prepared):
                self._recent.settle(one.work, result)
            elif not one.beside:
                self._recent.forget()
            future = one.future
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)


def _data_version(connection: sqlite3.Connection) -> int:
    """Return a number that changes when another connection writes to the file."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])
