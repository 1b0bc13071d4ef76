"""All that is kept of a person: exported, erased."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Protocol

from headrace.engine.errors import BusyError, InputError
from headrace.engine.identity.follow import MERGED, MERGING, find_living, read_stored
from headrace.engine.model import Doc
from headrace.engine.store.protocol import OWNED, AmendKind, OwnedKind, Page, Query, Ref, Stored

LATE_SECONDS = 1.0
"""How long after an erasure it is looked again: a server may have been about to write a trace."""


class Keeps(Protocol):
    """The part of a store that this needs."""

    async def read(self, refs: Sequence[Ref], *, recent: bool = False) -> list[Stored | None]:
        """Return each document by its id, or None."""
        ...

    async def find(self, query: Query) -> Page:
        """Return the newest documents that fit."""
        ...

    async def erase(self, tenant: str, profile: str | Sequence[str]) -> dict[str, int]:
        """Delete profiles and all that belongs to them."""
        ...

    async def amend(self, kind: AmendKind, key: str, change: Callable[[Doc], Doc | None]) -> Doc | None:
        """Change one document as it is now."""
        ...

    def owned(self, kind: OwnedKind, tenant: str, profiles: Sequence[str]) -> AsyncIterator[Doc]:
        """Yield what belongs to some profiles."""
        ...


async def ids_of(store: Keeps, tenant: str, profile: str) -> list[str]:
    """Return every id of the person whose profile has an id, the id itself too; it may be nobody's.

    Two profiles of which a merge is half done are one person. Raises StoreError; BusyError while one is taken apart.
    """
    known: set[str] = set()
    left = [profile]
    while left:
        one = left.pop()
        if one in known:
            continue
        known.add(one)
        left += await _merging(store, tenant, one)
        found = await _read(store, tenant, one)
        if found is not None:
            into = found.doc.get(MERGED) or found.doc.get(MERGING)
            # What it was then says less than the profile that it lives on in, unless that is gone.
            whole = found.doc if MERGED not in found.doc else found.doc.get("frozen") or {}
            gone = into is None or await _read(store, tenant, into) is None
            left += [into] if into else []
            left += [id for id in whole.get("ids", ()) if gone or MERGED not in found.doc]
    return sorted(known)


async def _read(store: Keeps, tenant: str, profile: str) -> Stored | None:
    try:
        return await read_stored(store, tenant, profile)
    except UnicodeEncodeError:
        raise InputError(422, "bad_text", "A text in the question is not valid Unicode.") from None


async def _merging(store: Keeps, tenant: str, survivor: str) -> list[str]:
    """Return the profiles that are being merged into one: only the timers that finish it say so."""
    merging = []
    async for timer in _timers(store, Query("timer", tenant, profile=survivor, status="pending")):
        loser = timer["loser"]
        found = await _read(store, tenant, loser)
        if found is not None and timer["kind"] == "unmerge" and found.doc.get(MERGED) == survivor:
            raise BusyError(f"{loser} is just being taken out of {survivor}: a server does it within seconds")
        if found is not None and found.doc.get(MERGING) == survivor:
            merging.append(loser)
    return merging


async def _timers(store: Keeps, query: Query) -> AsyncIterator[Doc]:
    """Yield the timers of merges and of their undoing."""
    while True:
        page = await store.find(query)
        for doc in page.items:
            if doc.get("kind") in ("merge", "unmerge"):
                yield doc
        if page.cursor is None:
            return
        query = replace(query, cursor=page.cursor)


async def _forget_apart(store: Keeps, tenant: str, ids: Sequence[str]) -> None:
    """Take what they waited for out of the timers of those that they were taken apart from."""
    for one in ids:
        found = await _read(store, tenant, one)
        for other in found.doc.get("apart", ()) if found is not None else ():
            async for timer in _timers(store, Query("timer", tenant, profile=other)):
                if timer["loser"] in ids and "waits" in timer:
                    await store.amend("timer", timer["id"], _without_waits)


def _without_waits(timer: Doc) -> Doc:
    return timer | {"waits": [], "consents": {}}


async def export(store: Keeps, tenant: str, profile: str) -> AsyncIterator[Doc]:
    """Yield all that is kept of a person, as `{"kind", "doc"}`: the profile first, then what was merged into it.

    Nothing is yielded when there is no such profile. Raises StoreError.
    """
    ids = await ids_of(store, tenant, profile)
    living = await find_living(store, tenant, profile)
    if living is None:
        return
    yield {"kind": "profile", "doc": living}
    for one in ids:
        found = await read_stored(store, tenant, one)
        if found is not None and one != living["id"]:
            yield {"kind": "merged", "doc": found.doc}
    for kind in OWNED:
        async for doc in store.owned(kind, tenant, ids):
            yield {"kind": kind, "doc": doc}


async def erase(store: Keeps, tenant: str, profile: str) -> dict[str, int]:
    """Erase a person by any id that they ever had; returns how many documents of each kind went.

    What another server was about to write is looked for again, after a moment. Raises InputError, StoreError; then
    erase again.
    """
    ids = await ids_of(store, tenant, profile)
    await _forget_apart(store, tenant, ids)
    gone = await store.erase(tenant, ids)
    if any(gone.values()):
        await asyncio.sleep(LATE_SECONDS)
        late = await store.erase(tenant, ids)
        gone = {kind: number + late[kind] for kind, number in gone.items()}
    return gone
