"""Copies everything from one store to another."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from time import monotonic
from typing import NamedTuple

from headrace.engine.errors import StoreRefused
from headrace.engine.model import Doc, iso_now
from headrace.engine.store.encoding import decode_doc, encode_doc
from headrace.engine.store.moving import MOVED, Batch, Kept, MovedKind, Moving

BATCH = 2_000
NOTE_SECONDS = 0.5
"""How old a note may be: what was written since is not known to who goes on."""

AT_ONCE = 50
"""Documents that are compared at once."""

NAMED = 20
"""Differences of one kind that are named one by one."""

Counts = dict[MovedKind, int]


class Progress(NamedTuple):
    """How far a kind is: documents gone through, of about how many, and how many of them were written."""

    kind: MovedKind
    done: int
    total: int
    written: int


class Found(NamedTuple):
    """What a comparison found: what differs, what is worth knowing, how many documents were compared."""

    differences: list[str]
    remarks: list[str]
    compared: int


class Copying:
    """One copy. `begin` it, go through `run`, then `compare`.

    It leaves a note in the target, by which a copy that is made again, or goes on, knows that what is there is its own.
    One that goes on goes through everything from the beginning: a server may have written to the source since.
    """

    def __init__(self, source: Moving, target: Moving, *, into_existing: bool = False) -> None:
        self.source = source
        self.target = target
        self.resumed = False
        """Whether a copy was ended in the middle, so that what it wrote is there."""
        self.before: Counts = {}
        self._into_existing = into_existing
        self._note: Doc = {}
        self._noted_at = 0.0

    async def begin(self) -> None:
        """Look at both stores. Raises StoreRefused when the target has what is not this copy's."""
        if self.source.shown() == self.target.shown():
            raise StoreRefused(f"{self.source.shown()} cannot be copied to itself: name another store.")
        await self.source.settle()
        await self.target.settle()
        self.before = await self.source.tally()
        there = await self.target.tally()
        note = await self.target.note() or {}
        if note.get("from") != self.source.shown():
            self._refuse_foreign(there)
        elif not note.get("finished"):
            self._note, self.resumed = note | {"kinds": _unread(note)}, True
        elif note["counts"] != there:
            self._refuse_used(note["counts"], there)
        if not self.resumed:
            self._note = {"from": self.source.shown(), "began": iso_now(), "kinds": {}, "finished": None}

    def _refuse_foreign(self, there: Counts) -> None:
        if any(there.values()) and not self._into_existing:
            raise StoreRefused(
                f"{self.target.shown()} has data that is not from {self.source.shown()}: {_words(there)}. "
                "Name an empty store, or say --into-existing to add to it: what has the same key then stays as it is."
            )

    def _refuse_used(self, counts: Doc, there: Counts) -> None:
        if not self._into_existing:
            changed = {kind: n - counts.get(kind, 0) for kind, n in there.items()}
            raise StoreRefused(
                f"{self.target.shown()} was written to after it was copied ({_words(changed, sign=True)}), "
                "so nothing is copied over it again. Name an empty store, or say --into-existing to add only what "
                "is missing."
            )

    async def run(self) -> AsyncIterator[Progress]:
        """Copy every kind, and yield how far it is. Raises StoreError, BusyError; then a new copy keeps what is there.

        Of a copy that goes on, what is written counts with what is known to have been written before.
        """
        for kind in MOVED:
            at = self._note["kinds"].setdefault(kind, {"done": 0, "written": 0})
            total = self.before[kind]
            yield Progress(kind, 0, total, at["written"])
            async for progress in self._copy(kind, at, total):
                yield progress
        # For those who come after: what a server does here from now on is not the copy's.
        self._note |= {"finished": iso_now(), "counts": await self._counted(self.target)}
        await self.target.keep_note(self._note)

    async def _copy(self, kind: MovedKind, at: Doc, total: int) -> AsyncIterator[Progress]:
        """Copy one kind; the next documents are read while some are written."""
        coming = self._ask(kind, None)
        is_whole = False
        try:
            while not is_whole:
                batch = await coming
                is_whole = batch.after is None
                if batch.after is not None:
                    coming = self._ask(kind, batch.after)
                at["written"] += await self.target.load(kind, batch.rows, replace=not self._into_existing)
                at["done"] += len(batch.rows)
                if is_whole or monotonic() - self._noted_at > NOTE_SECONDS:
                    await self.target.keep_note(self._note)
                    self._noted_at = monotonic()
                yield Progress(kind, at["done"], max(total, at["done"]), at["written"])
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    def _ask(self, kind: MovedKind, after: str | None) -> "asyncio.Task[Batch]":
        return asyncio.create_task(self.source.dump(kind, after, BATCH))

    @staticmethod
    async def _counted(store: Moving) -> Counts:
        await store.settle()
        return await store.tally()

    async def compare(self, sample: int) -> tuple[Counts, Counts, Found]:
        """Return the counts of both stores, and what differs in them and in about `sample` documents."""
        mine, theirs = await self._counted(self.source), await self._counted(self.target)
        found = Found([], [], 0)
        moved = {kind: n - self.before.get(kind, n) for kind, n in mine.items()}
        if any(moved.values()):
            found.differences.append(
                f"A server seems to write to {self.source.shown()} ({_words(moved, sign=True)} while it was copied). "
                "Stop it, then run the same command again: it writes only what changed."
            )
        for kind in MOVED:
            await self._compare_counts(kind, mine[kind], theirs[kind], found)
        compared = 0
        for kind, n in _shares(mine, sample):
            # Some at a time: documents may be large.
            for at in range(0, n, AT_ONCE):
                compared += await self._compare_some(kind, min(AT_ONCE, n - at), found)
        return mine, theirs, found._replace(compared=compared)

    async def _compare_counts(self, kind: MovedKind, mine: int, theirs: int, found: Found) -> None:
        if mine == theirs or (self._into_existing and theirs > mine):
            return
        missing = [key async for key in self._missing(kind)]
        found.differences.extend(f"{kind} {key} is not in {self.target.shown()}." for key in missing[:NAMED])
        if len(missing) > NAMED:
            found.differences.append(f"{len(missing) - NAMED} more {kind} documents are missing there.")
        if theirs > mine:
            found.differences.append(
                f"{self.target.shown()} has {theirs - mine} {kind} more: what was deleted since the first copy, or "
                "is not from this copy. To get rid of it, copy to an empty store."
            )
        elif not missing:
            found.remarks.append(
                f"{mine - theirs} {kind} documents have a key that another one has too: it came again after it was "
                "forgotten. A file keeps the newest of them."
            )

    async def _missing(self, kind: MovedKind) -> AsyncIterator[str]:
        """Yield the keys of a kind that the target does not have."""
        after: str | None = None
        while True:
            batch = await self.source.dump(kind, after, BATCH)
            keys = [row.key for row in batch.rows]
            there = {row.key for row in await self._pick(kind, keys)}
            for key in keys:
                if key not in there:
                    yield key
            if batch.after is None:
                return
            after = batch.after

    async def _pick(self, kind: MovedKind, keys: list[str]) -> list[Kept]:
        """Return what the target has under some keys; an event says what a mark of the same key says."""
        found = await self.target.pick(kind, keys)
        return found + await self.target.pick("event", keys) if kind == "mark" else found

    async def _compare_some(self, kind: MovedKind, n: int, found: Found) -> int:
        """Compare documents that chance chooses; returns how many."""
        rows = {row.key: row for row in await self.source.sample(kind, n)}
        there: dict[str, list[Kept]] = {}
        for one in await self._pick(kind, list(rows)):
            there.setdefault(one.key, []).append(one)
        for key, row in rows.items():
            others = there.get(key, [])
            if not any(_is_same(kind, row, one) for one in others) and not await self._is_twin(
                kind, key, others
            ):
                what = ", ".join(_differing(row, others[0])) if others else "it is not there"
                found.differences.append(f"{kind} {key} differs in {self.target.shown()}: {what}.")
        return len(rows)

    async def _is_twin(self, kind: MovedKind, key: str, others: list[Kept]) -> bool:
        """Say whether the source has another document under this key, which is the one that the target has."""
        twins = await self.source.pick(kind, [key])
        return len(twins) > 1 and any(_is_same(kind, twin, one) for twin in twins for one in others)


def _unread(note: Doc) -> Doc:
    """Return what a note says of the kinds, as of a copy that has gone through nothing yet."""
    return {kind: {"done": 0, "written": at["written"]} for kind, at in note["kinds"].items()}


def _shares(counts: Counts, sample: int) -> Iterator[tuple[MovedKind, int]]:
    """Yield how many documents of each kind to compare: as there are many of it, but some of each."""
    total = sum(counts.values())
    for kind, n in counts.items():
        share = max(round(sample * n / total), sample // 20) if total else 0
        if share and n:
            yield kind, min(share, n)


def _is_same(kind: MovedKind, one: Kept, other: Kept) -> bool:
    if kind == "mark" and other.doc is not None:
        # An event of the same key.
        return True
    return not _differing(one, other)


def _differing(one: Kept, other: Kept) -> list[str]:
    """Return the names of what differs: members of the document, and what stands beside it."""
    names = [
        name
        for name in one.fields.keys() | other.fields.keys()
        if one.fields.get(name) != other.fields.get(name)
    ]
    if one.tenant != other.tenant:
        names.append("tenant")
    if one.doc != other.doc and (one.doc is None or other.doc is None):
        names.append("the document")
    elif one.doc is not None and other.doc is not None and one.doc != other.doc:
        mine, theirs = decode_doc(one.doc), decode_doc(other.doc)
        # The same bytes in another spelling are the same document; 1 and true are not.
        names += [
            name
            for name in mine.keys() | theirs.keys()
            if name not in mine
            or name not in theirs
            or encode_doc({"": mine[name]}) != encode_doc({"": theirs[name]})
        ]
    return sorted(names)


def _words(counts: Counts, *, sign: bool = False) -> str:
    return ", ".join(f"{n:+,} {kind}" if sign else f"{n:,} {kind}" for kind, n in counts.items() if n)
