"""What grew too old: whole months, or single documents."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from headrace.engine.model import iso, make_key
from headrace.engine.store.elastic.bulk import Bulk, Operation
from headrace.engine.store.elastic.cluster import Cluster, RefusedError
from headrace.engine.store.elastic.documents import EVENT_CLAIM, HIDDEN
from headrace.engine.store.elastic.keeping import (
    EVENT,
    change_all,
    delete_all,
    indices_of,
    raise_refused,
)
from headrace.engine.store.elastic.layout import MARGIN
from headrace.engine.store.elastic.parts import delete_line
from headrace.engine.store.elastic.search import ANY_INDEX, Body, Hit, refresh, scan, search
from headrace.engine.store.protocol import AskKind
from headrace.engine.store.question import TIME

PAGE = 500
MASTER_SECONDS = 30.0

FIRST_YEAR = 2026
"""No claim is older."""

_MONTH = re.compile(r"-(\d{4})\.(\d{2})(-\d+)?")
_MONTHLY: tuple[AskKind, ...] = ("failed", "trace")
_DUE: tuple[AskKind, ...] = ("effect", "timer")

_WAITS: Body = {"exists": {"field": "pending_since"}}
"""Holds documents that are not written yet: it is not touched until the sweeper has been there."""

_MERGED: Body = {"term": {"facets": HIDDEN}}
_REMEMBERED = ("key", "tenant", "change", "id", "profile", "received", "content")
_FORGET: Body = {
    "source": "ctx._source.keySet().retainAll(params.kept)",
    "params": {"kept": _REMEMBERED},
}
"""Makes a mark of an event."""


class Month(NamedTuple):
    """An index by the month: its name, and when the month is over."""

    name: str
    ends: datetime


class _Owner(msgspec.Struct):
    tenant: str = "main"
    id: str | None = None
    ids: list[str] = []


_decode_owner = msgspec.json.Decoder(_Owner).decode


async def prune(
    cluster: Cluster, bulk: Bulk, kind_days: Mapping[str, int], now: datetime, dedup_days: int
) -> dict[str, int]:
    """Delete what is older than the days of its kind; returns how many of each kind went, and how many marks.

    A month of events whose keys need not be known any more goes with its index. Raises ValueError for a kind that is
    not kept, StoreError; then prune again.
    """
    for kind in kind_days:
        if kind not in TIME:
            msg = f"No retention for {kind!r}. There are: {', '.join(TIME)}"
            raise ValueError(msg)
    await refresh(cluster, indices_of(cluster.place, *kind_days, "event", "claim"))
    gone = dict.fromkeys((*kind_days, "mark"), 0)
    known = now - timedelta(days=dedup_days)
    for kind, days in kind_days.items():
        before = now - timedelta(days=days)
        if kind == "event":
            await _prune_events(cluster, before, known, gone)
        elif kind == "profile":
            gone[kind] = await _prune_profiles(cluster, bulk, before)
        elif kind in _MONTHLY:
            gone[kind] = await _prune_months(cluster, kind, before)
        else:
            gone[kind] = await delete_all(cluster, indices_of(cluster.place, kind), _old(kind, before))
    marks = {"bool": {"filter": [_earlier("received", known)], "must_not": [EVENT, _WAITS]}}
    gone["mark"] += await delete_all(cluster, indices_of(cluster.place, "event"), marks)
    await delete_all(cluster, indices_of(cluster.place, "claim"), _event_claims(known))
    return gone


def _earlier(field: str, time: datetime) -> Body:
    return {"range": {field: {"lt": iso(time)}}}


def _old(kind: str, before: datetime) -> Body:
    """Return which documents of a kind are too old."""
    if kind in _DUE:
        # What a worker has still to do does not grow old.
        waits: list[Body] = [{"exists": {"field": "next"}}, {"term": {"status": "pending"}}]
        # A timer may have waited for longer than it is kept.
        waits.append({"range": {"ended": {"gte": iso(before)}}})
        return {"bool": {"filter": [_earlier("created", before)], "must_not": waits}}
    # What was changed lately is not old, whenever it was made. A merged profile goes with the one that it lives on in.
    return {"bool": {"filter": [_earlier("updated", before)], "must_not": [_WAITS, _MERGED]}}


def _event_claims(known: datetime) -> Body:
    """Return which claims are of events whose keys need not be known: those of months that were over by then."""
    last = known - MARGIN
    facets = [
        f"{EVENT_CLAIM}{year}-{month:02}"
        for year in range(FIRST_YEAR, last.year + 1)
        for month in range(1, 13)
        if (year, month) < (last.year, last.month)
    ]
    return {"terms": {"facets": facets}}


async def _prune_events(cluster: Cluster, before: datetime, known: datetime, gone: dict[str, int]) -> None:
    """Let events go; those whose keys must stay known become marks."""
    place = cluster.place
    both = min(before, known)
    for month in await months(cluster, "event"):
        if month.ends + MARGIN <= both and not await _count(cluster, month.name, _WAITS):
            events = await _count(cluster, month.name, EVENT)
            gone["mark"] += await _count(cluster, month.name, {"match_all": {}}) - events
            gone["event"] += events
            await _drop(cluster, month.name)
    where = indices_of(place, "event")
    too_old: Body = {"bool": {"filter": [_earlier("received", both), EVENT], "must_not": [_WAITS]}}
    gone["event"] += await delete_all(cluster, where, too_old)
    if known < before:
        too_old = {"bool": {"filter": [_earlier("received", before), EVENT], "must_not": [_WAITS]}}
        gone["event"] += await change_all(cluster, where, too_old, _FORGET)


async def _prune_months(cluster: Cluster, kind: AskKind, before: datetime) -> int:
    """Let documents of a kind go that nothing needs to remember."""
    total = 0
    for month in await months(cluster, kind):
        if month.ends + MARGIN <= before:
            total += await _count(cluster, month.name, {"match_all": {}})
            await _drop(cluster, month.name)
    where = indices_of(cluster.place, kind)
    return total + await delete_all(cluster, where, _earlier(TIME[kind], before))


async def _prune_profiles(cluster: Cluster, bulk: Bulk, before: datetime) -> int:
    """Let profiles go, and then their claims, so that their values can belong to someone new."""
    total = 0
    batch: list[Hit] = []
    async for hit in scan(cluster, indices_of(cluster.place, "profile"), _old("profile", before), PAGE):
        batch.append(hit)
        if len(batch) == PAGE:
            total += await _drop_profiles(cluster, bulk, batch)
            batch = []
    return total + await _drop_profiles(cluster, bulk, batch)


async def _drop_profiles(cluster: Cluster, bulk: Bulk, hits: Sequence[Hit]) -> int:
    """Delete profiles that are still as they were found, with what was merged into them; returns how many went."""
    lines = [delete_line(hit.where, hit.id, hit.seq_no, hit.term) for hit in hits]
    written = await bulk.write([Operation(line, None) for line in lines])
    raise_refused([done for done in written if done.status not in (200, 404, 409)])
    owners = [
        _decode_owner(hit.source) for hit, done in zip(hits, written, strict=True) if done.status == 200
    ]
    merged = 0
    for owner in owners:
        others = {*owner.ids} - {owner.id}
        if others:
            merged += await _drop_merged(cluster, owner.tenant, sorted(others))
    for tenant, ids in _by_tenant(owners):
        await _drop_claims(cluster, tenant, ids)
    return len(owners) + merged


async def _drop_merged(cluster: Cluster, tenant: str, ids: Sequence[str]) -> int:
    """Delete those of some profiles that were merged, with their claims; returns how many."""
    where = indices_of(cluster.place, "profile")
    theirs: Body = {"terms": {"key": [make_key("profile", tenant, id) for id in ids]}}
    merged: Body = {"bool": {"filter": [theirs, _MERGED]}}
    found = [_decode_owner(hit.source) async for hit in scan(cluster, where, merged)]
    await _drop_claims(cluster, tenant, [one.id for one in found if one.id is not None])
    return await delete_all(cluster, where, merged)


async def _drop_claims(cluster: Cluster, tenant: str, ids: Sequence[str]) -> None:
    """Delete the claims of profiles, so that their values can belong to someone new."""
    theirs: Body = {"bool": {"filter": [{"term": {"tenant": tenant}}, {"terms": {"profile": ids}}]}}
    await delete_all(cluster, indices_of(cluster.place, "claim"), theirs)


def _by_tenant(owners: Iterable[_Owner]) -> Iterator[tuple[str, list[str]]]:
    """Yield the ids of profiles by their tenant."""
    found: dict[str, list[str]] = {}
    for owner in owners:
        if owner.id is not None:
            found.setdefault(owner.tenant, []).append(owner.id)
    yield from found.items()


async def months(cluster: Cluster, kind: AskKind) -> list[Month]:
    """Return the indices of a kind that is kept by the month, the oldest first."""
    name = indices_of(cluster.place, kind)
    try:
        found: dict[str, object] = await cluster.ask_json("GET", f"/{name}/_alias?{ANY_INDEX}")
    except RefusedError as error:
        if error.status != 404:
            raise
        return []
    made = []
    for index in found:
        match = _MONTH.fullmatch(index, len(name))
        if match is not None:
            year, month = int(match[1]), int(match[2])
            made.append(Month(index, datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)))
    return sorted(made, key=lambda one: one.ends)


async def _count(cluster: Cluster, where: str, query: Body) -> int:
    body: Body = {"size": 0, "query": query, "track_total_hits": True}
    return (await search(cluster, where, body)).hits.total.value


async def _drop(cluster: Cluster, index: str) -> None:
    """Delete an index; one that is gone already is fine."""
    try:
        await cluster.ask("DELETE", f"/{index}?ignore_unavailable=true", seconds=MASTER_SECONDS)
    except RefusedError as error:
        if error.status != 404:
            raise
