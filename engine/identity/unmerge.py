"""Takes two profiles apart that were merged."""

from datetime import datetime
from typing import NamedTuple

from headrace.engine.crash import crash_point
from headrace.engine.errors import BusyError
from headrace.engine.identity.fold import ABSORBED
from headrace.engine.identity.follow import MERGED, follow, is_merged, read_stored
from headrace.engine.identity.merge import ATTEMPTS, UNMERGE, Merging, Refused, reown, timer_of
from headrace.engine.identity.unfold import restored, unfold, waits_of
from headrace.engine.locks import Locks
from headrace.engine.model import Doc, iso, iso_now
from headrace.engine.parts import Parts
from headrace.engine.store.protocol import Leased, Store


class Apart(NamedTuple):
    """Two profiles that were one: the one that is there again, and the one that it had been merged into."""

    profile: str
    survivor: str


async def unmerge(store: Store, locks: Locks, tenant: str, profile: str) -> Apart | Refused:
    """Take a profile that was merged out of the one that it lives on in, and return both.

    Fields that nobody wrote since are as they were, and what came since stays with the survivor. The two are never
    merged again but by a person's word. Raises StoreError, BusyError: what was begun is finished by a timer.
    """
    merging = Merging(store, locks)
    for _ in range(ATTEMPTS):
        await merging.finish(tenant, profile)
        alias = await read_stored(store, tenant, profile)
        if alias is None:
            return Refused("no_profile", "There is no such profile.")
        if MERGED not in alias.doc:
            return Refused("not_merged", "The profile was not merged into another one.")
        survivor = alias.doc[MERGED]
        await merging.finish(tenant, survivor)
        found = await read_stored(store, tenant, survivor)
        if found is None:
            return Refused("no_profile", f"The profile {survivor}, which it was merged into, is gone.")
        if MERGED in found.doc:
            return Refused(
                "merged_on", f"It was merged into {survivor}, which was merged too: un-merge that first."
            )
        timer = await _take_out(merging, tenant, alias.doc, survivor)
        if timer is not None:
            crash_point("unmerge.undone")
            await _bring_back(merging, timer)
            await _give_back(merging, timer)
            return Apart(profile, survivor)
    raise BusyError("the profiles are written all the time")


async def _take_out(merging: Merging, tenant: str, alias: Doc, survivor: str) -> Doc | None:
    """Write the survivor without what the loser brought; returns the timer that does the rest, if need be."""
    now, frozen = iso_now(), alias["frozen"]
    timer = timer_of(UNMERGE, tenant, alias["id"], survivor, now)

    def unfolded(doc: Doc) -> Doc | None:
        if is_merged(doc):
            return None
        timer.doc["waits"] = waits_of(doc, frozen)
        # Without the record this was begun before, and not finished.
        return unfold(doc, frozen, now) if _holds(doc, alias["id"]) else doc

    return timer.doc if await merging.write(tenant, survivor, unfolded, [timer]) else None


def _holds(survivor: Doc, loser: str) -> bool:
    whole = survivor.get("frozen") or survivor
    return any(one["id"] == loser for one in whole.get(ABSORBED, ()))


async def _bring_back(merging: Merging, timer: Doc) -> None:
    """Restore the loser, unless that was done, or it was merged again."""
    tenant, loser, survivor = timer["tenant"], timer["loser"], timer["profile"]
    for _ in range(ATTEMPTS):
        alias = await read_stored(merging.store, tenant, loser)
        if alias is None or alias.doc.get(MERGED) != survivor:
            return
        found = await read_stored(merging.store, tenant, survivor)
        if found is not None and _holds(found.doc, loser):
            return
        if await merging.write(tenant, loser, lambda doc: _restored(doc, timer)):
            crash_point("unmerge.restored")
            return
    raise BusyError("the profile is written all the time")


def _restored(alias: Doc, timer: Doc) -> Doc | None:
    if alias.get(MERGED) != timer["profile"]:
        return None
    return restored(alias["frozen"], timer["profile"], timer["waits"], iso_now())


async def _give_back(merging: Merging, timer: Doc) -> int:
    """Give the loser its events, sessions and timers back; returns how many. Raises StoreError."""
    store, tenant, loser, survivor = merging.store, timer["tenant"], timer["loser"], timer["profile"]
    found = await read_stored(store, tenant, loser)
    if found is None or is_merged(found.doc):
        return 0
    ids = found.doc["ids"]
    owners = list(dict.fromkeys((survivor, await follow(store, tenant, survivor))))
    moved = await store.give_back(tenant, owners, ids, loser)
    # Another process may hold a session as it was: it has to read again before it writes the survivor.
    await merging.write(tenant, owners[-1], lambda doc: None if is_merged(doc) else doc)
    moved += await store.give_back(tenant, owners, ids, loser)
    found = await read_stored(store, tenant, loser)
    if found is not None and is_merged(found.doc):
        await reown(store, tenant, loser)
    return moved


async def fire_unmerge(parts: Parts, leased: Leased, now: datetime) -> Doc:
    """Finish what was begun to take two profiles apart; returns its timer as it is to be kept."""
    merging = Merging(parts.store, parts.locks)
    await _bring_back(merging, leased.doc)
    moved = await _give_back(merging, leased.doc)
    kept = {name: value for name, value in leased.doc.items() if name != "waits"}
    return {**kept, "status": "fired", "ended": iso(now), "moved": moved}
