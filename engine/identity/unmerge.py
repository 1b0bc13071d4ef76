"""Takes two profiles apart that were merged."""

from datetime import datetime
from typing import NamedTuple

from headrace.engine.crash import crash_point
from headrace.engine.errors import BusyError
from headrace.engine.identity.fold import ABSORBED, compiled_rules
from headrace.engine.identity.follow import MERGED, SAID, follow, is_merged, read_stored, without_notes
from headrace.engine.identity.merge import ATTEMPTS, UNMERGE, Merging, Refused, reown, timer_of
from headrace.engine.identity.unfold import Loser, restored, unfold, waits_of
from headrace.engine.locks import Locks
from headrace.engine.model import Doc, doc_key, iso, iso_now
from headrace.engine.parts import Parts
from headrace.engine.store.protocol import Leased, Ref, Store


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
        timer = await _take_out(merging, tenant, alias.doc, found.doc)
        if timer is not None:
            crash_point("unmerge.undone")
            await _bring_back(merging, timer)
            await _give_back(merging, timer)
            return Apart(profile, survivor)
    raise BusyError("the profiles are written all the time")


async def _take_out(merging: Merging, tenant: str, alias: Doc, survivor: Doc) -> Doc | None:
    """Write the survivor without what the loser brought; returns the timer that does the rest, if need be.

    It may have to be tried again with the survivor as it is then.
    """
    now, loser, known = iso_now(), alias["id"], _absorbed(survivor)
    losers = await _losers(merging.store, tenant, list(known))
    timer = timer_of(UNMERGE, tenant, loser, survivor["id"], now)

    def unfolded(doc: Doc) -> Doc | None:
        absorbed = _absorbed(doc)
        if is_merged(doc) or not absorbed.items() <= known.items():
            return None
        timer.doc["waits"] = waits_of(doc, alias["frozen"])
        # Without the record this was begun before, and not finished.
        return unfold(doc, loser, losers, now) if loser in absorbed else doc

    return timer.doc if await merging.write(tenant, survivor["id"], unfolded, [timer]) else None


async def _losers(store: Store, tenant: str, ids: list[str]) -> dict[str, Loser]:
    """Return the profiles of some ids as they were when they were merged; one may be frozen and not pointed yet."""
    losers = {}
    for stored in await store.read([Ref("profile", doc_key("profile", tenant, id)) for id in ids]):
        doc = {} if stored is None else stored.doc
        said = doc if MERGED in doc else doc.get(SAID)
        if said is not None:
            losers[doc["id"]] = Loser(doc.get("frozen") or without_notes(doc), compiled_rules(said["rules"]))
    return losers


def _absorbed(profile: Doc) -> dict[str, str]:
    """Return who was merged into a profile, and when."""
    return {one["id"]: one["at"] for one in profile.get(ABSORBED, ())}


async def _bring_back(merging: Merging, timer: Doc) -> None:
    """Restore the loser, unless that was done, or it was merged again."""
    tenant, loser, survivor = timer["tenant"], timer["loser"], timer["profile"]
    for _ in range(ATTEMPTS):
        alias = await read_stored(merging.store, tenant, loser)
        if alias is None or alias.doc.get(MERGED) != survivor:
            return
        found = await read_stored(merging.store, tenant, survivor)
        if found is not None and loser in _absorbed(found.doc.get("frozen") or found.doc):
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
