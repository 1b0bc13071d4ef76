"""Merges profiles: freeze the loser, fold it, point it."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from math import inf
from typing import NamedTuple

from headrace.engine.crash import crash_point
from headrace.engine.errors import BusyError
from headrace.engine.identity.fold import ABSORBED, compiled_rules, fold, join, noted, survives
from headrace.engine.identity.follow import (
    MERGED,
    MERGING,
    SAID,
    Reads,
    find_living,
    follow,
    ids_of,
    is_merged,
    read_stored,
    without_notes,
)
from headrace.engine.identity.values.decide import holds
from headrace.engine.locks import Held, Locks
from headrace.engine.model import Doc, doc_key, iso, iso_now, make_key, new_id
from headrace.engine.parts import Parts
from headrace.engine.store.protocol import Change, Committed, Leased, Row, Store, Write

MERGE, UNMERGE = "merge", "unmerge"
"""The kinds of timers that finish a merge or its undoing, and give events and sessions to whom they belong then."""

Declared = Mapping[str, str]
"""Strategies by paths, as a workspace declares them."""

ATTEMPTS = 200
"""How often a merge is tried whose profiles are written all the time."""


async def merge(parts: Parts, tenant: str, one: str, other: str, by: str, terms: Doc | None = None) -> str:
    """Make one profile of two, and return its id; `by` says whose wish it is.

    It is done when this returns, but that events and sessions are still re-owned by a timer; until then both ids find
    them. Ids of profiles that were merged before stand for those that they live on in. One that is gone is nobody:
    then the other's id comes back. Two for which `terms` (`decide.terms_of`) do not hold, when it comes to it, stay as
    they are, and the id of the first comes back. Raises StoreError, BusyError: what was begun is finished by who comes
    next.
    """
    rules = parts.live.current.merge_rules
    made = await Merging(parts.store, parts.locks).merge(tenant, one, other, by, rules, terms)
    parts.wakes.timers.set()
    return made


class Refused(NamedTuple):
    """Why nothing is done: a code word and a sentence."""

    code: str
    reason: str


class Folded(NamedTuple):
    """What a merge would make of two profiles: the one that lives on as it is and as it would be, and the other.

    `changes` says what becomes of each field that the loser has.
    """

    survivor: Doc
    loser: Doc
    result: Doc
    changes: list[Doc]


async def preview(store: Reads, tenant: str, one: str, other: str, rules: Declared) -> Folded | Refused:
    """Return what a merge would make of two profiles, or why there is nothing to merge. Raises StoreError."""
    docs = []
    for profile in (one, other):
        found = await find_living(store, tenant, profile)
        if found is None:
            return Refused("no_profile", f"There is no profile {profile}.")
        docs.append(found)
    mine, theirs = docs
    if mine["id"] == theirs["id"]:
        return Refused("is_one", f"They are one profile already: {mine['id']}.")
    survivor, loser = (mine, theirs) if survives(mine, theirs) else (theirs, mine)
    joined = join(survivor, loser, compiled_rules(rules))
    return Folded(survivor, loser, noted(joined, survivor, loser, iso_now(), ""), joined.changes)


def alias_of(frozen: Doc, survivor: str) -> Doc | None:
    """Return what stands in place of a profile that was merged: it keeps all that it was. None: it is not frozen."""
    if MERGING not in frozen:
        return None
    said = frozen[SAID]
    whole = without_notes(frozen)
    return {
        "id": frozen["id"],
        "tenant": frozen["tenant"],
        "hidden": True,
        MERGED: survivor,
        "merged_at": said["at"],
        "by": said["by"],
        "rules": said["rules"],
        "frozen": whole,
        "time": frozen["time"],
    }


def timer_of(kind: str, tenant: str, loser: str, survivor: str, now: str, id: str | None = None) -> Row:
    """Return the timer that finishes what was begun with two profiles, if nobody else does; it is due now.

    With an `id` of what was begun its key is known to who comes later.
    """
    key = make_key(kind, tenant, loser, id or new_id())
    doc: Doc = {"id": key, "kind": kind, "tenant": tenant, "event": None, "source": None, "session": None}
    doc |= {"profile": survivor, "loser": loser, "due": now, "status": "pending", "created": now}
    return Row(key, doc)


async def fire_merge(parts: Parts, leased: Leased, now: datetime) -> Doc:
    """Finish a merge, and give the survivor what was the loser's; returns its timer as it is to be kept."""
    doc = leased.doc
    tenant, loser = doc["tenant"], doc["loser"]
    await Merging(parts.store, parts.locks).finish(tenant, loser)
    moved = await reown(parts.store, tenant, loser)
    if await follow(parts.store, tenant, loser) == loser:
        # It was taken out again meanwhile: nothing of it may stay behind.
        ids = await ids_of(parts.store, tenant, loser)
        await parts.store.give_back(tenant, [doc["profile"]], ids, loser)
    return {**doc, "status": "fired", "ended": iso(now), "moved": moved}


async def reown(store: Store, tenant: str, loser: str) -> int:
    """Give what was a merged profile's to the one that it lives on in; returns how many. May raise StoreError."""
    survivor = await follow(store, tenant, loser)
    moved = 0 if survivor == loser else await store.reown(tenant, loser, survivor)
    crash_point("merge.reowned")
    return moved


Changes = Callable[[Doc], Doc | None]
"""Returns what is to stand in place of a profile, or None when it is not to be written."""


class Merging:
    """Merges profiles in a store. It never holds two locks of profiles; every step is harmless to do twice.

    `ends` is when waiting for a lock ends, by the process's clock.
    """

    def __init__(self, store: Store, locks: Locks, ends: float = inf) -> None:
        self.store = store
        self._locks = locks
        self._ends = ends

    async def merge(
        self, tenant: str, one: str, other: str, by: str, rules: Declared, terms: Doc | None = None
    ) -> str:
        """Make one profile of two by declared strategies, and return its id."""
        for _ in range(ATTEMPTS):
            mine, theirs = await self.settled(tenant, one), await self.settled(tenant, other)
            if mine is None or theirs is None:
                return one if mine is None and theirs is None else str((mine or theirs or {})["id"])
            if mine["id"] == theirs["id"]:
                return str(mine["id"])
            if terms is not None and not holds(terms, mine, theirs):
                return str(mine["id"])
            survivor, loser = (mine, theirs) if survives(mine, theirs) else (theirs, mine)
            said = {"at": iso_now(), "by": by, "rules": dict(rules), "terms": terms}
            if await self._freeze(tenant, loser["id"], survivor["id"], said):
                crash_point("merge.frozen")
        raise BusyError("the profiles are written all the time")

    async def settled(self, tenant: str, profile: str) -> Doc | None:
        """Return the profile that an id means, after all merges of it that are half done were finished, or None."""
        while (found := await read_stored(self.store, tenant, profile)) is not None:
            if MERGED in found.doc:
                profile = found.doc[MERGED]
            elif MERGING in found.doc:
                await self.finish(tenant, profile)
            else:
                return found.doc
        return None

    async def finish(self, tenant: str, loser: str) -> None:
        """Fold and point a frozen profile, from wherever it was left; thaw it if its survivor is gone, or changed."""
        for _ in range(ATTEMPTS):
            stored = await read_stored(self.store, tenant, loser)
            if stored is None or MERGING not in stored.doc:
                return
            into = await self._folded_into(tenant, stored.doc)
            if into is None:
                await self.write(tenant, loser, _thawed)
            elif into:
                crash_point("merge.folded")
                if await self.write(tenant, loser, partial(alias_of, survivor=into)):
                    crash_point("merge.pointed")
        raise BusyError("the profiles are written all the time")

    async def _folded_into(self, tenant: str, loser: Doc) -> str | None:
        """Return the id of the profile that has a frozen one folded in, "" when somebody was faster, None for none."""
        into = str(loser[MERGING])
        while (found := await read_stored(self.store, tenant, into)) is not None:
            whole = found.doc.get("frozen") or found.doc
            if any(one["id"] == loser["id"] for one in whole.get(ABSORBED, ())):
                return into
            if MERGED in found.doc:
                into = found.doc[MERGED]
            elif MERGING in found.doc:
                await self.finish(tenant, into)
            elif not _may(loser, found.doc):
                return None
            else:
                return into if await self._fold(tenant, into, loser) else ""
        return None

    async def _fold(self, tenant: str, survivor: str, loser: Doc) -> bool:
        whole = without_notes(loser)
        said = loser[SAID]

        def folded(doc: Doc) -> Doc | None:
            if is_merged(doc) or not _may(loser, doc):
                return None
            return fold(doc, whole, compiled_rules(said["rules"]), said["at"], said["by"])

        return await self.write(tenant, survivor, folded)

    async def _freeze(self, tenant: str, loser: str, survivor: str, said: Doc) -> bool:
        """Let nobody but the merge write the loser any more; a timer finishes the merge if nobody else does."""
        timer = timer_of(MERGE, tenant, loser, survivor, said["at"])

        def frozen(doc: Doc) -> Doc | None:
            if is_merged(doc):
                return None
            return {**doc, MERGING: survivor, SAID: said}

        return await self.write(tenant, loser, frozen, [timer])

    async def write(
        self, tenant: str, profile: str, change: Changes, timers: list[Row] | None = None
    ) -> bool:
        """Write a profile as a function makes it of what it is, under its lock; False when that could not be."""
        held = Held(self._locks, self._ends)
        key = doc_key("profile", tenant, profile)
        try:
            await held.take(key)
            stored = await read_stored(self.store, tenant, profile)
            made = None if stored is None else change(stored.doc)
            if stored is None or made is None:
                return False
            write = Write(key, made, stored.version)
            committed = await self.store.commit(Change(new_id(), tenant, profile=write, timers=timers or []))
            return isinstance(committed, Committed)
        finally:
            held.release()


def _may(loser: Doc, survivor: Doc) -> bool:
    """Say whether a frozen profile may still be folded into another one, which may have changed meanwhile."""
    terms = loser[SAID].get("terms")
    return terms is None or holds(terms, survivor, loser)


def _thawed(doc: Doc) -> Doc | None:
    """Return a frozen profile as it was before."""
    return without_notes(doc) if MERGING in doc else None
