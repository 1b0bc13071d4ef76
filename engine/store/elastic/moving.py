"""Carries everything out of, and into, a cluster."""

from collections import deque
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import msgspec
from msgspec import structs

from headrace.engine.errors import StoreError, StoreRefused
from headrace.engine.model import Doc, iso_now
from headrace.engine.store.elastic.bulk import Bulk, Done, Operation
from headrace.engine.store.elastic.cluster import Cluster, RefusedError
from headrace.engine.store.elastic.documents import (
    WORKFLOW,
    as_text,
    claim_source,
    doc_id,
    event_source,
    listed_source,
    mark_source,
    profile_source,
    session_source,
    workflow_source,
)
from headrace.engine.store.elastic.layout import INDEX_OF, MONTHLY, alias, month_index
from headrace.engine.store.elastic.parts import Planned, replace_line
from headrace.engine.store.elastic.place import Place
from headrace.engine.store.elastic.reading import Members, encode_members, members_of, raw
from headrace.engine.store.elastic.search import Body, refresh, search
from headrace.engine.store.elastic.settle import THERE, UNREADABLE, WRITTEN, Settler
from headrace.engine.store.elastic.setup import Setup
from headrace.engine.store.elastic.sweep import Sweeper
from headrace.engine.store.encoding import decode_doc
from headrace.engine.store.moving import MOVED, Batch, Kept, MovedKind
from headrace.engine.store.protocol import Claim, Row, Write

COPIED = "copied"
"""Stands as the change of what was copied, until a server writes it."""

NOTE = "copy"
MOST_BYTES = 8 << 20
"""Of the documents in one bulk, and about what a page should be."""

FIRST_PAGE = 20
"""Documents of the first page, whose size nobody knows."""

PICKED = 50
"""Keys that one search looks for."""

WAIT_SECONDS = 120.0
"""How long a write may be tried again: a copy has time."""

SEARCH_SECONDS = 60.0

_PROFILES: tuple[str, ...] = ("created", "updated")
_FIELDS: dict[MovedKind, tuple[str, ...]] = {
    "profile": _PROFILES,
    "session": _PROFILES,
    "claim": ("profile",),
    "mark": ("received", "profile", "session", "content", "id"),
    "event": ("received",),
    "workflow": ("created",),
    **dict.fromkeys(("failed", "trace"), ("created", "profile")),
    **dict.fromkeys(("effect", "timer"), ("created", "profile", "next")),
}

_TYPED: Body = {"exists": {"field": "type"}}
_EVERY: Body = {"match_all": {}}
_WHICH: dict[MovedKind, Body] = {
    "workflow": {"term": {"facets": WORKFLOW}},
    # One that is only claimed is no session yet; no server is at work to make it one.
    "session": {"range": {"n": {"gte": 1}}},
    "mark": {"bool": {"must_not": [_TYPED]}},
    "event": _TYPED,
}
_INDEX: dict[MovedKind, str] = {
    "mark": "events",
    **{kind: INDEX_OF[kind] for kind in MOVED if kind != "mark"},
}
_OWN_TIME = {"events": "received", "failed": "created", "traces": "created"}


class _There(msgspec.Struct, rename={"seq_no": "_seq_no", "term": "_primary_term", "source": "_source"}):
    """What stands where a document should be created."""

    seq_no: int = -1
    term: int = 0
    found: bool = False
    source: msgspec.Raw = msgspec.Raw(b"{}")


class _Answer(msgspec.Struct):
    docs: list[_There] = []


_decode_answer = msgspec.json.Decoder(_Answer).decode
_encode = msgspec.json.Encoder().encode


class _Pair(NamedTuple):
    """A document and the write that makes it."""

    kept: Kept
    plan: Planned


class ElasticMoving:
    """A cluster as a copy sees it. Servers may use it at the same time."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._cluster = Cluster(place)
        self._bulk = Bulk(self._cluster)
        self._page = FIRST_PAGE

    def shown(self) -> str:
        """Name the cluster's nodes and the indices."""
        return self._place.shown()

    async def begin(self, *, make: bool) -> None:
        """Make what is missing, or look whether it is there. Raises StoreError when the cluster cannot be used."""
        setup = Setup(self._cluster)
        if not make and await setup.found_version() is None:
            raise StoreRefused(f"There is no store at {self._place.shown()}: no server ever used it.")
        if not await setup.run():
            raise StoreError(f"Elasticsearch at {self._place.shown()} cannot be used: {setup.text}")

    async def settle(self) -> None:
        """Write what waits in commit records, and let searches see everything. Raises StoreError for what it cannot."""
        names = f"{self._place.prefix}-*"
        # The sweeper finds what waits by a search.
        await refresh(self._cluster, names)
        settler = Settler(self._bulk)
        sweeper = Sweeper(self._cluster, self._bulk, settler)
        await sweeper.sweep(timedelta(0))
        await refresh(self._cluster, names)
        if sweeper.unwritten:
            raise StoreError(
                f"At least {sweeper.unwritten} records in {self._place.shown()} hold documents that cannot be written "
                f"to their indices: {settler.trouble}. They would be missing in a copy: mend that first."
            )

    async def tally(self) -> dict[MovedKind, int]:
        """Count every kind, as searches see it."""
        return await count_kinds(self._cluster)

    async def dump(self, kind: MovedKind, after: str | None, n: int) -> Batch:
        """Return about `n` documents behind a place, in the order of their keys."""
        if after is None:
            self._page = FIRST_PAGE
        size = min(n, self._page)
        body = _body(_WHICH.get(kind, _EVERY), size)
        # The same key may stand in two months, when it came again after it was forgotten.
        times = [{_OWN_TIME[_INDEX[kind]]: "asc"}] if _INDEX[kind] in MONTHLY else []
        body["sort"] = [{"key": "asc"}, *times]
        if after is not None:
            body["search_after"] = msgspec.json.decode(after)
        hits = (await search(self._cluster, _where(self._place, kind), body)).hits.hits
        weight = sum(len(hit.source) for hit in hits)
        if weight > MOST_BYTES:
            self._page = max(1, size // 2)
        elif weight < MOST_BYTES // 4 and len(hits) == size:
            self._page = min(self._page * 2, 10_000)
        rows = [_kept(kind, members_of(hit.source)) for hit in hits]
        return Batch(rows, _encode(hits[-1].sort).decode() if len(hits) == size else None)

    async def load(self, kind: MovedKind, rows: Sequence[Kept], *, replace: bool) -> int:
        """Create documents, in bulks of a bounded size; returns how many were written."""
        written = 0
        for some in _bounded(rows):
            pairs = [_Pair(row, _planned(self._place, kind, row)) for row in some]
            done = await self._write([pair.plan for pair in pairs])
            written += sum(one.status in WRITTEN for one in done)
            there = [pair for pair, one in zip(pairs, done, strict=True) if one.status == THERE]
            if replace and there:
                written += await self._replace(kind, there)
        return written

    async def pick(self, kind: MovedKind, keys: Sequence[str]) -> list[Kept]:
        """Return what stands under some keys, as searches see it."""
        found: list[Kept] = []
        for at in range(0, len(keys), PICKED):
            named: Body = {"terms": {"key": list(keys[at : at + PICKED])}}
            which = {"bool": {"filter": [named, _WHICH.get(kind, _EVERY)]}}
            # A key may stand in more than one month.
            found += await self._search(kind, which, 10 * PICKED)
        return found

    async def sample(self, kind: MovedKind, n: int) -> list[Kept]:
        """Return `n` documents by chance."""
        which: Body = {"function_score": {"query": _WHICH.get(kind, _EVERY), "random_score": {}}}
        found: list[Kept] = []
        for at in range(0, n, PICKED):
            found += await self._search(kind, which, min(PICKED, n - at))
        return found

    async def note(self) -> Doc | None:
        """Return the note of a copy."""
        try:
            answer = await self._cluster.ask_json("GET", self._note_path())
        except RefusedError as error:
            if error.status != 404:
                raise
            return None
        note: Doc = answer["_source"]["note"]
        return note

    async def keep_note(self, note: Doc) -> None:
        """Keep a note of a copy."""
        await self._cluster.ask_json("PUT", self._note_path(), {"key": NOTE, "note": note})

    async def close(self) -> None:
        """Close the connections."""
        await self._cluster.close()

    def _note_path(self) -> str:
        return f"/{alias(self._place, 'about')}/_doc/{NOTE}"

    async def _search(self, kind: MovedKind, query: Body, size: int) -> list[Kept]:
        found = await search(self._cluster, _where(self._place, kind), _body(query, size))
        return [_kept(kind, members_of(hit.source)) for hit in found.hits.hits]

    async def _write(self, planned: Sequence[Planned]) -> list[Done]:
        """Write planned documents and return what became of each. Raises StoreError when one was refused."""
        done = await self._send([Operation(one.line(), one.source) for one in planned])
        for at, one in enumerate(done):
            if one.status == UNREADABLE:
                text = planned[at].as_text()
                (done[at],) = await self._send([Operation(text.line(), text.source)])
        _raise_refused(done)
        return done

    async def _send(self, operations: Sequence[Operation]) -> list[Done]:
        return await self._bulk.write(operations, patience=WAIT_SECONDS)

    async def _replace(self, kind: MovedKind, pairs: Sequence[_Pair]) -> int:
        """Write documents in place of those that a copy wrote and that differ; returns how many."""
        asked = {"docs": [{"_index": pair.plan.where, "_id": pair.plan.id} for pair in pairs]}
        # Without filter_path: with it a source would be written anew, and its numbers another way.
        answer = await self._cluster.ask("POST", "/_mget", _encode(asked), seconds=SEARCH_SECONDS)
        operations = []
        for pair, there in zip(pairs, _decode_answer(answer).docs, strict=True):
            members = members_of(there.source) if there.found else {}
            if members and _may_replace(kind, members) and _kept(kind, members) != pair.kept:
                operations.append(_replacing(pair.plan, there, members))
        done = await self._send(operations)
        for at, one in enumerate(done):
            if one.status == UNREADABLE:
                text = Operation(operations[at].line, as_text(operations[at].source or b""))
                (done[at],) = await self._send([text])
        _raise_refused(done)
        return sum(one.status in WRITTEN for one in done)


async def count_kinds(cluster: Cluster) -> dict[MovedKind, int]:
    """Return how many documents of each kind there are, as searches see it."""
    counts: dict[MovedKind, int] = {}
    for kind in MOVED:
        body = {"size": 0, "query": _WHICH.get(kind, _EVERY), "track_total_hits": True}
        counts[kind] = (await search(cluster, _where(cluster.place, kind), body)).hits.total.value
    return counts


def _where(place: Place, kind: MovedKind) -> str:
    return alias(place, _INDEX[kind])


def _body(query: Body, size: int) -> Body:
    return {"size": size, "query": query, "track_total_hits": False}


def _raise_refused(done: Sequence[Done]) -> None:
    refused = next((one for one in done if one.status not in (*WRITTEN, THERE)), None)
    if refused is not None:
        raise StoreError(f"Elasticsearch refused a document: {refused.status} {refused.reason}")


def _bounded(rows: Sequence[Kept]) -> Iterator[list[Kept]]:
    """Cut rows into pieces that a bulk can take; a large document stands alone."""
    some: list[Kept] = []
    size = 0
    left = deque(rows)
    while left:
        row = left.popleft()
        weight = len(row.doc or b"") + 500
        if some and size + weight > MOST_BYTES:
            yield some
            some, size = [], 0
        some.append(row)
        size += weight
    if some:
        yield some


def _may_replace(kind: MovedKind, members: Members) -> bool:
    """Say whether a copy may write over a document: not what a server wrote, not what was leased or done here."""
    if kind in ("profile", "session", "claim", "mark", "event"):
        return members.get("change") == raw(COPIED)
    if kind in ("effect", "timer"):
        return "lease" not in members and "change" not in members and members.get("next") != raw(None)
    return False


def _replacing(plan: Planned, there: _There, members: Members) -> Operation:
    if plan.kind == "session":
        n = int(bytes(members["n"])) + 1
        source = members_of(plan.source)
        source["n"] = raw(n)
        return Operation(structs.replace(plan, n=n).line(), encode_members(source))
    return Operation(replace_line(plan.where, plan.id, there.seq_no, there.term), plan.source)


def _kept(kind: MovedKind, members: Members) -> Kept:
    """Return what a source holds."""
    doc: bytes | None = None
    if "doc" in members:
        doc = bytes(members["doc"])
    elif "text" in members:
        doc = str(_value(members, "text")).encode()
    fields = {name: _value(members, name) for name in _FIELDS[kind]}
    return Kept(str(_value(members, "key")), str(_value(members, "tenant")), doc, fields)


def _value(members: Members, name: str) -> Any:
    found = members.get(name)
    return None if found is None else msgspec.json.decode(found)


def _planned(place: Place, kind: MovedKind, row: Kept) -> Planned:
    """Return the write of a document."""
    times = {name: row.fields.get(name) or iso_now() for name in ("received", "created")}
    source = _true(_rendered(kind, row), row)
    index, id = _INDEX[kind], doc_id(row.key)
    if kind == "session":
        return Planned("session", alias(place, index), id, 1, source)
    where = alias(place, index)
    if index in MONTHLY:
        where = month_index(place, index, times[_OWN_TIME[index]])
    return Planned("create", where, id, 0, source)


def _rendered(kind: MovedKind, row: Kept) -> bytes:
    """Return the whole source of a document, as a commit would write it."""
    now = iso_now()
    doc: Doc = dict(row.fields) if row.doc is None else decode_doc(row.doc)
    match kind:
        case "profile":
            return profile_source(Write(row.key, doc, None), row.tenant, COPIED, now) + b"}"
        case "session":
            return session_source(Write(row.key, doc, None), row.tenant, COPIED, 1, now) + b"}"
        case "workflow":
            return workflow_source(Row(row.key, doc), row.tenant, now)
        case "claim":
            return claim_source(Claim(row.key, row.fields["profile"] or "", doc), row.tenant, COPIED)
        case "mark":
            return mark_source(Row(row.key, doc), row.tenant, COPIED, now) + b"}"
        case "event":
            return event_source(Row(row.key, doc), row.tenant, COPIED, now) + b"}"
        case _:
            return listed_source(Row(row.key, doc), _INDEX[kind], row.tenant, None, now)


def _true(source: bytes, row: Kept) -> bytes:
    """Return a source with the very bytes of its document, and with what was kept beside it."""
    members = members_of(source)
    for name, value in row.fields.items():
        members[name] = raw(value)
    if "doc" in members and row.doc is not None:
        members["doc"] = msgspec.Raw(row.doc)
    elif "text" in members and row.doc is not None:
        members["text"] = raw(row.doc.decode())
    return encode_members(members)
