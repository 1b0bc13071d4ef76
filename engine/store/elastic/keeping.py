"""What is erased, and what is given to another profile."""

import asyncio
from collections.abc import Callable, Sequence
from time import time_ns
from typing import Any

import msgspec

from headrace.engine.errors import StoreError
from headrace.engine.model import make_key
from headrace.engine.store.elastic.bulk import Bulk, Done, Operation
from headrace.engine.store.elastic.cluster import Cluster
from headrace.engine.store.elastic.documents import as_text, doc_id
from headrace.engine.store.elastic.gets import Get, Gets, Got
from headrace.engine.store.elastic.layout import INDEX_OF, SESSION_VERSIONS, alias
from headrace.engine.store.elastic.parts import Part, Planned, delete_line, replace_line
from headrace.engine.store.elastic.place import Place
from headrace.engine.store.elastic.reading import (
    Members,
    doc_of,
    encode_members,
    members_of,
    raw,
    set_in_doc,
)
from headrace.engine.store.elastic.search import ANY_INDEX, Body, Hit, refresh, scan
from headrace.engine.store.encoding import given_back
from headrace.engine.store.protocol import AskKind
from headrace.engine.store.question import bad_text

ROUNDS = 5
"""How often what is being written meanwhile is looked for again."""

BATCH = 5_000
"""Documents that one request deletes or changes at most, so that each is over in seconds."""

BATCH_SECONDS = 60.0
MOVED_AT_ONCE = 200

ON_THE_WAY_MS = 12_000
"""After this nobody writes any more what stood in a profile that is gone."""

LOOK_SECONDS = 0.05

_WRITTEN = (200, 201)
_encode = msgspec.json.Encoder().encode

EVENT: Body = {"exists": {"field": "type"}}
"""Tells an event from a mark."""

_OWNED = ("session", "claim", "failed", "effect", "timer", "trace")


def indices_of(place: Place, *kinds: str) -> str:
    """Return the names of kinds in a request's path."""
    return ",".join(sorted({alias(place, INDEX_OF[kind]) for kind in kinds}))


class _Ids(msgspec.Struct):
    ids: list[str] = []


class _Number(msgspec.Struct):
    n: int = 0


class _Pending(msgspec.Struct):
    pending: list[Part] = []


class _Said(msgspec.Struct):
    deleted: int = 0
    updated: int = 0
    version_conflicts: int = 0


_decode_said = msgspec.json.Decoder(_Said).decode
_decode_number = msgspec.json.Decoder(_Number).decode
_decode_then = msgspec.json.Decoder(dict[str, Any]).decode
_decode_ids = msgspec.json.Decoder(_Ids).decode
_decode_pending = msgspec.json.Decoder(_Pending).decode


async def erase(cluster: Cluster, bulk: Bulk, gets: Gets, tenant: str, profile: str) -> dict[str, int]:
    """Delete a profile, by all ids that it ever had, and all that belongs to it; returns how many of each kind went.

    The profile goes first, so that no change that is under way can still be committed for it; what one committed
    just before is looked for again. Raises InputError, StoreError; then erase again.
    """
    place = cluster.place
    gone = dict.fromkeys(("profile", "event", "mark", *_OWNED), 0)
    ids, gone["profile"] = await _erase_profile(bulk, gets, place, tenant, profile)
    mine: list[Body] = [{"term": {"tenant": tenant}}, {"terms": {"profile": ids}}]
    wanted: list[tuple[str, AskKind | str, Body]] = [
        ("event", "event", {"bool": {"filter": [*mine, EVENT]}}),
        ("mark", "event", {"bool": {"filter": mine, "must_not": [EVENT]}}),
        *((kind, kind, {"bool": {"filter": mine}}) for kind in _OWNED),
    ]
    names = indices_of(place, "event", *_OWNED)
    for _ in range(ROUNDS):
        await refresh(cluster, names)
        found = 0
        for name, kind, query in wanted:
            deleted = await delete_all(cluster, indices_of(place, kind), query)
            gone[name] += deleted
            found += deleted
        if not found:
            break
    return gone


async def _erase_profile(
    bulk: Bulk, gets: Gets, place: Place, tenant: str, profile: str
) -> tuple[list[str], int]:
    """Delete the documents of a profile's ids; returns the ids and how many documents there were."""
    try:
        key = make_key("profile", tenant, profile)
    except UnicodeEncodeError:
        raise bad_text() from None
    where = alias(place, "profiles")
    (got,) = await gets.read([Get(where, doc_id(key))])
    ids = sorted({profile, *(_decode_ids(got.source).ids if got is not None else ())})
    names = [doc_id(make_key("profile", tenant, id)) for id in ids]
    gone, waiting = 0, list[Planned]()
    for name in names:
        if (got := await _delete(bulk, gets, where, name)) is not None:
            gone += 1
            waiting += _young(_decode_pending(got.source).pending)
    await _wait_for(gets, waiting)
    return ids, gone


async def _delete(bulk: Bulk, gets: Gets, where: str, id: str) -> Got | None:
    """Delete a document and return it as it was at that moment; None when it is not there."""
    while (got := (await gets.read([Get(where, id)]))[0]) is not None:
        (done,) = await bulk.write([Operation(delete_line(where, id, got.seq_no, got.term), None)])
        if done.status in _WRITTEN:
            return got
        # 409: it was written since it was read.
        raise_refused([done] if done.status not in (404, 409) else [])
    return None


def _young(parts: Sequence[Part]) -> list[Planned]:
    """Return what a server may be about to write."""
    since = time_ns() // 1_000_000 - ON_THE_WAY_MS
    return [one for part in parts if part.at > since for one in part.planned()]


async def _wait_for(gets: Gets, planned: Sequence[Planned]) -> None:
    """Wait until documents are there that a server is about to write: what comes later nobody would erase."""
    ends = time_ns() // 1_000_000 + ON_THE_WAY_MS
    while planned and time_ns() // 1_000_000 < ends:
        found = await gets.read([Get(one.where, one.id) for one in planned])
        planned = [one for one, got in zip(planned, found, strict=True) if not _is_written(one, got)]
        if planned:
            await asyncio.sleep(LOOK_SECONDS)


def _is_written(one: Planned, got: Got | None) -> bool:
    """Say whether a planned document is there, or a newer one."""
    return got is not None and (one.kind == "create" or _decode_number(got.source).n >= one.n)


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
        answer = await cluster.ask("POST", f"/{where}/{path}?{options}", data, seconds=BATCH_SECONDS)
        said = _decode_said(answer)
        changed = said.deleted + said.updated
        total += changed
        if not changed or changed + said.version_conflicts < BATCH:
            return total


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
    again = await bulk.write([one._replace(source=as_text(one.source or b"")) for one in unread])
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
