"""Profiles, and all that belongs to them: erased."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from time import time_ns

import msgspec
import structlog

from headrace.engine.errors import StoreError
from headrace.engine.model import make_key
from headrace.engine.store.elastic.belonging import LINKED, OWNED_INDICES, Belonging, where
from headrace.engine.store.elastic.bulk import Bulk, Operation
from headrace.engine.store.elastic.cluster import Cluster
from headrace.engine.store.elastic.documents import doc_id
from headrace.engine.store.elastic.gets import Get, Gets, Got
from headrace.engine.store.elastic.keeping import ROUNDS, delete_all, indices_of, raise_refused
from headrace.engine.store.elastic.layout import MONTHLY, WHOLE, alias
from headrace.engine.store.elastic.parts import Part, Planned, delete_line
from headrace.engine.store.elastic.place import Place
from headrace.engine.store.elastic.search import ANY_INDEX, Body, refresh, scan
from headrace.engine.store.protocol import OWNED
from headrace.engine.store.question import bad_text

ON_THE_WAY_MS = 12_000
"""After this nobody writes any more what stood in a profile that is gone."""

LOOK_SECONDS = 0.05
EXPUNGE_AFTER_SECONDS = 60.0
"""When segments that hold deleted documents are written anew: many erasures are then done at once."""

_WRITTEN = (200, 201)
_log = structlog.get_logger(__name__)


class _Source(msgspec.Struct):
    """What is read of a source: `ids` and `pending` of a profile; the others of what belongs to one."""

    id: str | None = None
    ids: list[str] = []
    profile: str | None = None
    n: int = 0
    hidden: bool = False
    pending: list[Part] = []


_decode = msgspec.json.Decoder(_Source).decode


async def erase(
    cluster: Cluster, bulk: Bulk, gets: Gets, tenant: str, profiles: Sequence[str]
) -> dict[str, int]:
    """Delete profiles, by all ids that they have, and all that belongs to them; returns how many of each kind went.

    The profile goes first, so that no change that is under way can still be committed for it; what one committed
    just before is looked for again. Those that were merged into it go last: who asks again after a fault finds the
    rest by them. Raises InputError, StoreError; then erase again.
    """
    place = cluster.place
    gone: dict[str, int] = dict.fromkeys(("profile", *OWNED), 0)
    hidden = await _profiles(cluster, gets, tenant, profiles)
    living = sorted(id for id, is_hidden in hidden.items() if not is_hidden)
    waiting: list[Planned] = []
    for id in living:
        last = await _delete(bulk, gets, place, tenant, id)
        if last is not None:
            gone["profile"] += 1
            waiting += _young(last.pending)
    waiting += await _carried_elsewhere(cluster, tenant, set(hidden))
    await _wait_for(gets, waiting)
    theirs = Belonging(cluster, tenant, sorted(hidden))
    await theirs.look()
    for _ in range(ROUNDS):
        if not await _delete_linked(cluster, theirs, gone):
            break
        await refresh(cluster, indices_of(place, *LINKED))
    for _ in range(ROUNDS):
        await refresh(cluster, indices_of(place, *OWNED_INDICES))
        if not await _delete_owned(cluster, theirs, gone):
            break
    for id in sorted(hidden.keys() - set(living)):
        gone["profile"] += await _delete(bulk, gets, place, tenant, id) is not None
    return gone


async def _delete_linked(cluster: Cluster, theirs: Belonging, gone: dict[str, int]) -> int:
    found = 0
    async for query in theirs.linked():
        deleted = await delete_all(cluster, where(cluster.place, query.kind), query.body)
        gone[query.kind] += deleted
        found += deleted
    return found


async def _delete_owned(cluster: Cluster, theirs: Belonging, gone: dict[str, int]) -> int:
    found = 0
    for query in theirs.queries():
        deleted = await delete_all(cluster, where(cluster.place, query.kind), query.body)
        gone[query.kind] += deleted
        found += deleted
    return found


async def _profiles(cluster: Cluster, gets: Gets, tenant: str, profiles: Iterable[str]) -> dict[str, bool]:
    """Return the ids of profiles, those that they have besides and those that were merged into them.

    Each with whether its document is that of a merged one.
    """
    place, found = cluster.place, dict[str, bool]()
    await refresh(cluster, alias(place, "profiles"))
    left = sorted(set(profiles))
    while left:
        read = await gets.read([Get(alias(place, "profiles"), _name(tenant, id)) for id in left])
        sources = {id: _decode(got.source) for id, got in zip(left, read, strict=True) if got}
        found |= {id: id in sources and sources[id].hidden for id in left}
        more = {id for one in sources.values() if not one.hidden for id in one.ids}
        # A profile that is there says itself what was merged into it.
        lost = [id for id in left if id not in sources]
        merged: Body = {"bool": {"filter": [{"term": {"tenant": tenant}}, {"terms": {"ids": lost}}]}}
        async for hit in scan(cluster, alias(place, "profiles"), merged):
            one = _decode(hit.source)
            more |= {one.id or ""} if one.hidden else set()
        left = sorted(more - found.keys() - {""})
    return found


def _name(tenant: str, profile: str) -> str:
    try:
        return doc_id(make_key("profile", tenant, profile))
    except UnicodeEncodeError:
        raise bad_text() from None


async def _delete(bulk: Bulk, gets: Gets, place: Place, tenant: str, profile: str) -> _Source | None:
    """Delete a profile's document and return its source as it was at that moment; None when it is not there."""
    where, id = alias(place, "profiles"), _name(tenant, profile)
    while (got := (await gets.read([Get(where, id)]))[0]) is not None:
        (done,) = await bulk.write([Operation(delete_line(where, id, got.seq_no, got.term), None)])
        if done.status in _WRITTEN:
            return _decode(got.source)
        # 409: it was written since it was read.
        raise_refused([done] if done.status not in (404, 409) else [])
    return None


def _young(parts: Sequence[Part]) -> list[Planned]:
    """Return what a server may be about to write."""
    since = time_ns() // 1_000_000 - ON_THE_WAY_MS
    return [one for part in parts if part.at > since for one in part.planned()]


async def _carried_elsewhere(cluster: Cluster, tenant: str, profiles: set[str]) -> list[Planned]:
    """Return what of theirs still stands in the records of others: a session that was another's a moment ago."""
    waits: Body = {"bool": {"filter": [{"term": {"tenant": tenant}}, {"exists": {"field": "pending_since"}}]}}
    where = alias(cluster.place, "profiles")
    await refresh(cluster, where)
    return [
        one
        async for hit in scan(cluster, where, waits)
        for one in _young(_decode(hit.source).pending)
        if _decode(one.source).profile in profiles
    ]


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
    return got is not None and (one.kind == "create" or _decode(got.source).n >= one.n)


class Expunger:
    """Has the cluster write segments anew that hold deleted documents, some time after something was erased."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._task: asyncio.Task[None] | None = None

    def ask(self) -> None:
        """Have it done soon, for all that is erased until then."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._later(), name="headrace-expunge")

    async def _later(self) -> None:
        await asyncio.sleep(EXPUNGE_AFTER_SECONDS)
        await expunge(self._cluster)

    async def close(self) -> None:
        """Do now what was asked for."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            await expunge(self._cluster)


async def expunge(cluster: Cluster) -> None:
    """Ask the cluster to drop deleted documents from its segments, in its own time; a refusal is only logged.

    Without it they go when segments are merged, which may be long after.
    """
    where = ",".join(alias(cluster.place, kind) for kind in (*WHOLE, *MONTHLY))
    setting = {"index": {"merge": {"policy": {"expunge_deletes_allowed": 0}}}}
    options = f"only_expunge_deletes=true&wait_for_completion=false&{ANY_INDEX}"
    try:
        await cluster.ask_json("PUT", f"/{where}/_settings?{ANY_INDEX}", setting)
        await cluster.ask("POST", f"/{where}/_forcemerge?{options}")
    except StoreError as error:
        _log.warning("store.not_expunged", error=str(error))
