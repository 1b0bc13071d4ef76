"""Leases on effects and timers."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from headrace.engine.errors import StoreError
from headrace.engine.model import Doc, iso, new_id, utc_now
from headrace.engine.store.elastic.bulk import Bulk, Done, Operation
from headrace.engine.store.elastic.cluster import Cluster
from headrace.engine.store.elastic.documents import as_text, doc_id
from headrace.engine.store.elastic.gets import Get, Gets
from headrace.engine.store.elastic.layout import INDEX_OF, alias
from headrace.engine.store.elastic.parts import replace_line
from headrace.engine.store.elastic.reading import Members, doc_of, encode_members, members_of, put_doc, raw
from headrace.engine.store.elastic.search import Hit, refresh, search
from headrace.engine.store.encoding import due_at, text_or_none
from headrace.engine.store.protocol import MOST_COUNTED, OLDEST, AmendKind, DueKind, Leased, Waiting

ROUNDS = 3
"""How often a claim looks again when others were faster."""

_WRITTEN = (200, 201)


class _Held(msgspec.Struct):
    """What a source says of its lease; `change` names the lease under which it was written last."""

    key: str = ""
    lease: str | None = None
    change: str = ""


class _Oldest(msgspec.Struct):
    """The smallest time of an aggregation: milliseconds since 1970, or None."""

    value: float | None = None


_decode_oldest = msgspec.json.Decoder(_Oldest).decode
_decode_held = msgspec.json.Decoder(_Held).decode


class _Now(NamedTuple):
    """A document as it is now, at its index and `_id`."""

    seq_no: int
    term: int
    source: bytes
    held: _Held


class Leases:
    """Hands out what is due. The versions of the documents decide who gets one, in whatever process."""

    def __init__(self, cluster: Cluster, bulk: Bulk, gets: Gets) -> None:
        self._cluster = cluster
        self._bulk = bulk
        self._gets = gets
        self._unseen: set[DueKind] = set()

    def wrote(self, kind: DueKind) -> None:
        """Say that documents were written: the next claim makes searches see them first.

        What other processes write is seen after the refresh interval.
        """
        self._unseen.add(kind)

    async def claim_due(
        self, kind: DueKind, n: int, lease_seconds: float, now: datetime, *, newest: bool = False
    ) -> list[Leased]:
        """Hand out up to `n` pending documents that are due and that nobody holds, oldest or newest first.

        `next` is the time at which a document may be taken: when it is due, or when the lease on it ends.
        Raises StoreError; what was leased by then comes again when the lease ends.
        """
        until = iso(now + timedelta(seconds=lease_seconds))
        leased: list[Leased] = []
        for _ in range(ROUNDS):
            hits = await self._due(kind, n - len(leased), now, "desc" if newest else "asc")
            if not hits:
                break
            mine = await self._lease(kind, hits, until)
            leased += mine
            if len(mine) == len(hits):
                break
            # Others were faster, or the search saw what is no longer so.
            self._unseen.add(kind)
        return leased

    async def done(self, kind: DueKind, leased: Leased, doc: Doc) -> bool:
        """Write what became of it and give the lease back; False when the lease was lost in between."""
        where, id = self._where(kind), doc_id(leased.key)
        for _ in range(ROUNDS):
            found = await self._read(where, id)
            if found is None or found.held.lease != leased.lease:
                return False
            members = members_of(found.source)
            next_at = _finish(members, leased.lease, doc, iso(utc_now()))
            status = (await self._replace(where, id, found, encode_members(members))).status
            if status in _WRITTEN or await self._was_written(where, id, leased.lease):
                if next_at is not None:
                    self._unseen.add(kind)
                return True
        return False

    async def done_many(self, kind: DueKind, done: Sequence[tuple[Leased, Doc]]) -> list[bool]:
        """Do `done` for several documents with one read and one write; those in which something came between, alone."""
        where, now = self._where(kind), iso(utc_now())
        found = await self._gets.read([Get(where, doc_id(leased.key)) for leased, _ in done])
        results: list[bool | None] = [False] * len(done)
        places, operations = [], []
        for place, ((leased, doc), got) in enumerate(zip(done, found, strict=True)):
            if got is None or _decode_held(got.source).lease != leased.lease:
                continue
            members = members_of(bytes(got.source))
            if _finish(members, leased.lease, doc, now) is not None:
                self._unseen.add(kind)
            line = replace_line(where, doc_id(leased.key), got.seq_no, got.term)
            places.append(place)
            operations.append(Operation(line, encode_members(members)))
        for place, written in zip(places, await self._bulk.write(operations), strict=True):
            results[place] = True if written.status in _WRITTEN else None
        return [
            await self.done(kind, *one) if result is None else result
            for one, result in zip(done, results, strict=True)
        ]

    async def amend(
        self, kind: AmendKind, where: str, key: str, change: Callable[[Doc], Doc | None]
    ) -> Doc | None:
        """Change one document of an index as it is now; None when it is not there, or `change` returns None."""
        id, mine = doc_id(key), new_id()
        while (found := await self._read(where, id)) is not None:
            doc = doc_of(found.source)
            if found.held.change == mine:
                return doc
            doc = None if doc is None else change(doc)
            if doc is None:
                return None
            members = members_of(found.source)
            _finish(members, mine, doc, iso(utc_now()))
            if kind != "failed":
                self._unseen.add(kind)
            if (await self._replace(where, id, found, encode_members(members))).status in _WRITTEN:
                return doc
        return None

    async def waiting(self, kind: DueKind) -> Waiting:
        """Count what is pending, as of the last refresh."""
        body = {
            "size": 0,
            "query": {"exists": {"field": "next"}},
            "track_total_hits": MOST_COUNTED,
            "aggs": {"oldest": {"min": {"field": OLDEST[kind]}}},
        }
        found = await search(self._cluster, self._where(kind), body)
        oldest = _decode_oldest(found.aggregations["oldest"]).value if found.aggregations else None
        at = None if oldest is None else iso(datetime.fromtimestamp(oldest / 1000, UTC))
        return Waiting(min(found.hits.total.value, MOST_COUNTED), at)

    def _where(self, kind: DueKind) -> str:
        return alias(self._cluster.place, INDEX_OF[kind])

    async def _due(self, kind: DueKind, n: int, now: datetime, order: str) -> list[Hit]:
        where = self._where(kind)
        if kind in self._unseen:
            # Before the refresh: what is written meanwhile is for the next one.
            self._unseen.discard(kind)
            await refresh(self._cluster, where)
        body = {
            "size": n,
            "query": {"range": {"next": {"lte": iso(now)}}},
            "sort": [{"next": order}, {"key": order}],
            "seq_no_primary_term": True,
            "track_total_hits": False,
        }
        return (await search(self._cluster, where, body)).hits.hits if n > 0 else []

    async def _lease(self, kind: DueKind, hits: Sequence[Hit], until: str) -> list[Leased]:
        """Write a lease into each document that is as it was found; returns those that got it."""
        lease = new_id()
        operations = [
            Operation(replace_line(hit.where, hit.id, hit.seq_no, hit.term), _with_lease(hit, lease, until))
            for hit in hits
        ]
        self._unseen.add(kind)
        written = await self._bulk.write(operations)
        lost = [hit for hit, done in zip(hits, written, strict=True) if done.status not in _WRITTEN]
        ours = await self._ours(lost, lease)
        return [
            Leased(_decode_held(hit.source).key, doc, lease)
            for hit, done in zip(hits, written, strict=True)
            if (done.status in _WRITTEN or hit.id in ours) and (doc := doc_of(hit.source)) is not None
        ]

    async def _ours(self, hits: Sequence[Hit], lease: str) -> set[str]:
        """Return the ids of documents that have a lease although its write was refused: its first answer was lost."""
        found = await self._gets.read([Get(hit.where, hit.id) for hit in hits])
        return {
            hit.id
            for hit, got in zip(hits, found, strict=True)
            if got is not None and _decode_held(got.source).lease == lease
        }

    async def _read(self, where: str, id: str) -> _Now | None:
        (got,) = await self._gets.read([Get(where, id)])
        if got is None:
            return None
        return _Now(got.seq_no, got.term, bytes(got.source), _decode_held(got.source))

    async def _replace(self, where: str, id: str, found: _Now, source: bytes) -> Done:
        """Write a document if it is as it was found. Raises StoreError when the cluster refuses what is in it."""
        line = replace_line(where, id, found.seq_no, found.term)
        (done,) = await self._bulk.write([Operation(line, source)])
        if done.status == 400:
            (done,) = await self._bulk.write([Operation(line, as_text(source))])
        if done.status not in (*_WRITTEN, 404, 409):
            raise StoreError(f"Elasticsearch refused a document: {done.status} {done.reason}")
        return done

    async def _was_written(self, where: str, id: str, lease: str) -> bool:
        found = await self._read(where, id)
        return found is not None and found.held.lease is None and found.held.change == lease


def _with_lease(hit: Hit, lease: str, until: str) -> bytes:
    members = members_of(hit.source)
    members["next"] = raw(until)
    members["lease"] = raw(lease)
    return encode_members(members)


def _finish(members: Members, lease: str, doc: Doc, now: str) -> str | None:
    """Put what became of a document into its source; returns when it is due again."""
    next_at = due_at(doc, now)
    put_doc(members, doc)
    members["status"] = raw(text_or_none(doc.get("status")))
    members["next"] = raw(next_at)
    members["change"] = raw(lease)
    members.pop("lease", None)
    members.pop("ended", None)
    if (ended := text_or_none(doc.get("ended"))) is not None:
        members["ended"] = raw(ended)
    return next_at
