"""What a question deletes, and what is given to another profile."""

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import msgspec

from headrace.engine.errors import StoreError
from headrace.engine.model import make_key
from headrace.engine.store.elastic.bulk import Bulk, Done, Operation
from headrace.engine.store.elastic.cluster import AwayError, Cluster
from headrace.engine.store.elastic.documents import as_text, doc_id
from headrace.engine.store.elastic.gets import Get, Gets
from headrace.engine.store.elastic.layout import INDEX_OF, SESSION_VERSIONS, alias
from headrace.engine.store.elastic.parts import Part, replace_line
from headrace.engine.store.elastic.place import Place
from headrace.engine.store.elastic.reading import (
    Members,
    doc_of,
    encode_members,
    members_of,
    raw,
    set_in_doc,
)
from headrace.engine.store.elastic.search import ANY_INDEX, PATIENCE_SECONDS, Body, Hit, refresh, scan
from headrace.engine.store.encoding import given_back
from headrace.engine.store.question import bad_text

ROUNDS = 5
"""How often what is being written meanwhile is looked for again."""

BATCH = 5_000
"""Documents that one request deletes or changes at most, so that each is over in seconds."""

BATCH_SECONDS = 60.0
AGAIN_SECONDS = 0.1
MOVED_AT_ONCE = 200

_WRITTEN = (200, 201)
_encode = msgspec.json.Encoder().encode

EVENT: Body = {"exists": {"field": "type"}}
"""Tells an event from a mark."""


def indices_of(place: Place, *kinds: str) -> str:
    """Return the names of kinds in a request's path."""
    return ",".join(sorted({alias(place, INDEX_OF[kind]) for kind in kinds}))


class _Pending(msgspec.Struct):
    pending: list[Part] = []


class _Said(msgspec.Struct):
    deleted: int = 0
    updated: int = 0
    version_conflicts: int = 0


_decode_said = msgspec.json.Decoder(_Said).decode
_decode_then = msgspec.json.Decoder(dict[str, Any]).decode
_decode_pending = msgspec.json.Decoder(_Pending).decode


def raise_refused(refused: Sequence[Done]) -> None:
    """Raise StoreError if there is an operation that the cluster refused."""
    if refused:
        raise StoreError(f"Elasticsearch refused a document: {refused[0].status} {refused[0].reason}")


async def delete_all(cluster: Cluster, where: str, query: Body) -> int:
    """Delete all documents that searches see and that fit, some at a time; returns how many.

    One that is written meanwhile stays. Raises StoreError; what was deleted by then stays deleted.
    """
    return await _by_query(cluster, where, "_delete_by_query", {"query": query})


async def change_all(cluster: Cluster, where: str, query: Body, script: Body) -> int:
    """Change all documents that searches see and that fit by a script, some at a time; returns how many.

    The script must make documents no longer fit.
    """
    return await _by_query(cluster, where, "_update_by_query", {"query": query, "script": script})


async def _by_query(cluster: Cluster, where: str, path: str, body: Body) -> int:
    options = f"{ANY_INDEX}&conflicts=proceed&refresh=true&max_docs={BATCH}"
    total = 0
    while True:
        try:
            data = _encode(body)
        except UnicodeEncodeError:
            raise bad_text() from None
        said = _decode_said(await _asked(cluster, f"/{where}/{path}?{options}", data))
        changed = said.deleted + said.updated
        total += changed
        if not changed or changed + said.version_conflicts < BATCH:
            return total


async def _asked(cluster: Cluster, path: str, data: bytes) -> bytes:
    """Ask, and again for a while when the cluster is busy or an index is being made: a second time is harmless."""
    ends = monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return await cluster.ask("POST", path, data, seconds=BATCH_SECONDS)
        except AwayError:
            if cluster.is_away or monotonic() > ends:
                raise
        await asyncio.sleep(AGAIN_SECONDS)


Rewrites = Callable[[Hit], Operation | None]
"""Returns the write that gives a document to another profile, or None for one that stays."""


async def reown(cluster: Cluster, bulk: Bulk, gets: Gets, tenant: str, loser: str, survivor: str) -> int:
    """Give the events, sessions and timers of one profile to another, keeping whose they were; returns how many.

    It goes on until nothing is found any more; what others write meanwhile is found in the next round. A session's
    number grows, so that a commit that read it before does not undo this. Raises StoreError; then do it again.
    """
    if loser == survivor:
        return 0
    await _settle(bulk, gets, cluster.place, tenant, (loser, survivor))
    return await _move_all(cluster, bulk, tenant, [loser], lambda hit: _moved(hit, loser, survivor))


async def give_back(
    cluster: Cluster,
    bulk: Bulk,
    gets: Gets,
    tenant: str,
    owners: Sequence[str],
    then: Sequence[str],
    profile: str,
) -> int:
    """Undo `reown` for what was of some profiles then; returns how many. Raises StoreError; then do it again."""
    await _settle(bulk, gets, cluster.place, tenant, (*owners, profile))
    return await _move_all(cluster, bulk, tenant, owners, lambda hit: _returned(hit, then, profile))


class Shown:
    """Lets searches find all events of some profiles; those who ask at the same time share a refresh."""

    def __init__(self, cluster: Cluster, bulk: Bulk, gets: Gets) -> None:
        self._cluster = cluster
        self._bulk = bulk
        self._gets = gets
        self._turn = asyncio.Lock()
        self._asked = 0
        self._done = 0

    async def catch_up(self, tenant: str, profiles: Sequence[str]) -> None:
        """Write what still waits in the profiles, and refresh. Raises StoreError."""
        await _settle(self._bulk, self._gets, self._cluster.place, tenant, profiles)
        self._asked = mine = self._asked + 1
        async with self._turn:
            if self._done < mine:
                asked = self._asked
                await refresh(self._cluster, indices_of(self._cluster.place, "event"))
                self._done = asked


async def _settle(bulk: Bulk, gets: Gets, place: Place, tenant: str, profiles: Sequence[str]) -> None:
    """Write what still waits in the profiles, so that no older session is written over one that was moved."""
    where = alias(place, "profiles")
    try:
        wanted = [Get(where, doc_id(make_key("profile", tenant, profile))) for profile in profiles]
    except UnicodeEncodeError:
        raise bad_text() from None
    parts = [part for got in await gets.read(wanted) if got for part in _decode_pending(got.source).pending]
    waiting = [one for part in parts for one in part.planned()]
    written = await bulk.write([Operation(one.line(), one.source) for one in waiting])
    unread = [one.as_text() for one, done in zip(waiting, written, strict=True) if done.status == 400]
    await bulk.write([Operation(one.line(), one.source) for one in unread])


async def _move_all(
    cluster: Cluster, bulk: Bulk, tenant: str, owners: Sequence[str], rewrites: Rewrites
) -> int:
    """Give away what some profiles have, kind by kind, until nothing is found that is to go; returns how many."""
    theirs: list[Body] = [{"term": {"tenant": tenant}}, {"terms": {"profile": list(owners)}}]
    total = 0
    for kind, query in (
        ("session", {"bool": {"filter": theirs}}),
        ("event", {"bool": {"filter": [*theirs, EVENT]}}),
        ("timer", {"bool": {"filter": theirs}}),
    ):
        where = indices_of(cluster.place, kind)
        for _ in range(ROUNDS):
            await refresh(cluster, where)
            found, moved = await _move(cluster, bulk, where, query, rewrites)
            total += moved
            if not found:
                break
    return total


async def _move(cluster: Cluster, bulk: Bulk, where: str, query: Body, rewrites: Rewrites) -> tuple[int, int]:
    """Move what a walk finds; returns how many documents are to go and how many were moved."""
    found = moved = 0
    batch: list[Operation] = []
    async for hit in scan(cluster, where, query, MOVED_AT_ONCE):
        operation = rewrites(hit)
        if operation is None:
            continue
        found += 1
        batch.append(operation)
        if len(batch) == MOVED_AT_ONCE:
            moved += await _move_some(bulk, batch)
            batch = []
    return found, moved + await _move_some(bulk, batch)


async def _move_some(bulk: Bulk, operations: Sequence[Operation]) -> int:
    written = await bulk.write(operations)
    unread = [one for one, done in zip(operations, written, strict=True) if done.status == 400]
    again = await bulk.write([Operation(one.line, as_text(one.source or b"")) for one in unread])
    written = [done for done in written if done.status != 400] + again
    raise_refused([done for done in written if done.status not in (*_WRITTEN, 404, 409)])
    return sum(done.status in _WRITTEN for done in written)


def _moved(hit: Hit, loser: str, survivor: str) -> Operation:
    """Return the write that gives a document to another profile; all else in it stays as it is."""
    members = members_of(hit.source)
    members["profile"] = raw(survivor)
    members.setdefault("profile_then", raw(loser))
    if "doc" in members or "text" in members:
        set_in_doc(members, {"profile": survivor}, {"profile_then": loser})
    return _rewritten(hit, members)


def _returned(hit: Hit, then: Sequence[str], profile: str) -> Operation | None:
    """Return the write that gives a document back, or None for one that was always its profile's."""
    if b'"profile_then"' not in bytes(hit.source):
        return None
    members = members_of(hit.source)
    is_bare = "doc" not in members and "text" not in members
    doc = _decode_then(hit.source) if is_bare else doc_of(hit.source)
    back = given_back(doc or {}, then, profile)
    if back is None:
        return None
    without = "" if "profile_then" in back else "profile_then"
    members["profile"] = raw(profile)
    members.pop(without, None)
    if not is_bare:
        set_in_doc(members, {"profile": profile}, {}, without)
    return _rewritten(hit, members)


def _rewritten(hit: Hit, members: Members) -> Operation:
    """Return the write of a source that was read, unless another came between; a session's number grows."""
    line = replace_line(hit.where, hit.id, hit.seq_no, hit.term)
    if "n" in members and ("doc" in members or "text" in members):
        n = int(bytes(members["n"])) + 1
        members["n"] = raw(n)
        line = _external(hit, SESSION_VERSIONS + n)
    return Operation(line, encode_members(members))


def _external(hit: Hit, version: int) -> bytes:
    return (
        f'{{"index":{{"_index":"{hit.where}","_id":"{hit.id}",'
        f'"version":{version},"version_type":"external"}}}}'
    ).encode()
