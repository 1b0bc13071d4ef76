"""Documents of committed changes, gathered on their way into their indices."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import msgspec

from headrace.engine.crash import crash_point
from headrace.engine.store.elastic.bulk import Done
from headrace.engine.store.elastic.parts import Planned
from headrace.engine.store.elastic.recent import Copies, Copy
from headrace.engine.store.elastic.settle import KEPT, WRITTEN, Settler

GATHER_SECONDS = 0.05
"""How long documents wait for others, so that few bulks take many: each costs the cluster as much as ten documents."""

ENOUGH_DOCUMENTS = 500
MOST_DOCUMENTS = 5_000
MOST_BYTES = 48 << 20
"""With more on the way the next change waits until there is room."""

PIECE_DOCUMENTS = 500
PIECE_BYTES = 4 << 20
"""What is written, tried again, and given up together: one document that is refused with all beside it harms few."""

FLUSH_SECONDS = 2.0
"""How long a reader waits for documents that the cluster does not take."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A committed change: its id, the `_id` of its record, and the documents that stand in the record's `pending`."""

    change: str
    record: str
    planned: Sequence[Planned]


class Backlog:
    """Writes what stands in `pending` after the answer was given. Used from one event loop.

    The change is safe already, so nobody waits for this but who wants to read one of the documents: `holds` knows them
    by `_id`, `flush` writes them at once. What cannot be written is left to the record's next reader and the sweeper.
    """

    def __init__(self, settler: Settler, copies: Copies) -> None:
        self._settler = settler
        self._copies = copies
        self._entries: list[Entry] = []
        self._ids: Counter[str] = Counter()
        self._documents = 0
        self._bytes = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    @property
    def documents(self) -> int:
        """How many documents are on their way."""
        return self._documents

    def holds(self, ids: Iterable[str]) -> bool:
        """Say whether any of these documents is on its way."""
        known = self._ids
        return bool(known) and any(id in known for id in ids)

    async def has_room(self, seconds: float) -> bool:
        """Wait until not too much is on the way, for so long; says whether there is room for another change."""
        if self.is_full:
            await self.flush(seconds)
        return not self.is_full

    @property
    def is_full(self) -> bool:
        """Say whether too much is on the way."""
        return self._documents > MOST_DOCUMENTS or self._bytes > MOST_BYTES

    def add(self, entry: Entry) -> None:
        """Take the documents of a change."""
        self._entries.append(entry)
        self._documents += len(entry.planned)
        for one in entry.planned:
            self._ids[one.id] += 1
            self._bytes += len(one.source)
            if one.kind == "session":
                # Its version is its number, which stands in the source; the cluster's own is not known yet.
                self._copies.put(one.id, Copy(-1, 0, one.doc, (), one.n, one.owner))
        self._start()
        if self._documents >= ENOUGH_DOCUMENTS:
            self._hurry.set()

    async def flush(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Wait until all that was added before is written, or given up; False when that takes longer."""
        if not self._ids:
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._hurry.set()
        self._start()
        done, _ = await asyncio.wait([waiter], timeout=seconds)
        return bool(done)

    async def close(self, seconds: float) -> None:
        """Write what waits, for so long; what is left stands in its record."""
        await self.flush(seconds)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _start(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="headrace-backlog")

    async def _run(self) -> None:
        while self._entries or self._waiters:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), GATHER_SECONDS)
            self._hurry.clear()
            entries, self._entries = self._entries, []
            waiters, self._waiters = self._waiters, []
            try:
                await self._write(entries)
            finally:
                for waiter in waiters:
                    if not waiter.done():
                        waiter.set_result(None)

    async def _write(self, entries: Sequence[Entry]) -> None:
        """Write the documents of changes; of a session that was written several times, the newest."""
        if not entries:
            return
        try:
            pieces = list(_pieces(entries))
            written = await asyncio.gather(*(self._settler.attempt(piece) for piece in pieces))
            done = {
                one.id: result
                for piece, results in zip(pieces, written, strict=True)
                for one, result in zip(piece, results or (), strict=False)
            }
            for entry in entries:
                self._end(entry, done)
        finally:
            for entry in entries:
                self._leave(entry)
        crash_point("store.settled")

    def _end(self, entry: Entry, written: dict[str, Done]) -> None:
        """Note what became of a change's documents."""
        is_done = True
        for one in entry.planned:
            done = written.get(one.id)
            if done is None or done.status not in KEPT:
                is_done = False
            if one.kind == "session":
                copy = self._copies.get(one.id)
                if copy is not None and copy.doc is one.doc:
                    self._keep(one, done)
        if is_done:
            self._settler.done.add(entry.change, "")
            self._copies.slim(entry.record, entry.change)
        else:
            self._copies.drop(entry.record)

    def _keep(self, session: Planned, done: Done | None) -> None:
        """Complete the copy of a session; what another process wrote since is none."""
        if done is not None and done.status in WRITTEN:
            copy = Copy(done.seq_no, done.term, session.doc, (), session.n, session.owner)
            self._copies.put(session.id, copy)
        else:
            self._copies.drop(session.id)

    def _leave(self, entry: Entry) -> None:
        self._documents -= len(entry.planned)
        for one in entry.planned:
            self._bytes -= len(one.source)
            self._ids[one.id] -= 1
            if not self._ids[one.id]:
                del self._ids[one.id]


def _pieces(entries: Sequence[Entry]) -> Iterator[list[Planned]]:
    """Yield documents in pieces of a bounded size, a change's together: the order of its events is that of writing."""
    newest = {one.id: one for entry in entries for one in entry.planned if one.kind == "session"}
    piece: list[Planned] = []
    size = 0
    for entry in entries:
        mine = [one for one in entry.planned if one.kind != "session" or newest[one.id] is one]
        weight = sum(len(one.source) for one in mine)
        if piece and (len(piece) + len(mine) > PIECE_DOCUMENTS or size + weight > PIECE_BYTES):
            yield piece
            piece, size = [], 0
        piece += mine
        size += weight
    yield piece
