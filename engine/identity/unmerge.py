"""Takes two profiles apart that were merged."""

from datetime import datetime
from functools import partial
from typing import NamedTuple

from headrace.engine.crash import crash_point
from headrace.engine.errors import BusyError
from headrace.engine.identity.fold import ABSORBED, CONSENTS, compiled_rules
from headrace.engine.identity.follow import (
    MERGED,
    SAID,
    find_living,
    follow,
    is_merged,
    read_stored,
    without_notes,
)
from headrace.engine.identity.merge import ATTEMPTS, UNMERGE, Merging, Refused, reown, timer_of
from headrace.engine.identity.strategies import is_said_later
from headrace.engine.identity.unfold import (
    Loser,
    consents_of,
    is_given,
    restored,
    said_since,
    unfold,
    waits_of,
    withdrawn,
)
from headrace.engine.locks import Locks
from headrace.engine.model import Doc, doc_key, iso, iso_now
from headrace.engine.parts import Parts
from headrace.engine.store.protocol import Leased, Ref, Store

HELD = ("waits", "consents", "agreed")
"""Members of a timer that it has until it was fired."""


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
        if profile in _absorbed(found.doc):
            timer = await _take_out(merging, tenant, alias.doc, found.doc)
        else:
            timer = await _begun(merging, alias.doc, found.doc)
        if timer is not None:
            crash_point("unmerge.undone")
            await _bring_back(merging, timer)
            await _give_back(merging, timer)
            await _withdraw(merging, timer)
            return Apart(profile, survivor)
    raise BusyError("the profiles are written all the time")


async def _take_out(merging: Merging, tenant: str, alias: Doc, survivor: Doc) -> Doc | None:
    """Write the survivor without what the loser brought; returns the timer that does the rest, if need be.

    It may have to be tried again with the survivor as it is then. The timer holds what of the survivor belongs to the
    loser: the events that its runs wait for, and consents that do not hold any more; and what the survivor agreed to.
    """
    now, loser, known = iso_now(), alias["id"], _absorbed(survivor)
    losers = await _losers(merging.store, tenant, list(known))
    timer = timer_of(UNMERGE, tenant, loser, survivor["id"], now, alias["merged_at"])

    def unfolded(doc: Doc) -> Doc | None:
        absorbed = _absorbed(doc)
        if is_merged(doc) or loser not in absorbed or not absorbed.items() <= known.items():
            return None
        made, consents = unfold(doc, loser, losers, now)
        timer.doc["waits"] = waits_of(doc, alias["frozen"])
        timer.doc["consents"], timer.doc["agreed"] = consents, consents_of(made)
        return made

    return timer.doc if await merging.write(tenant, survivor["id"], unfolded, [timer]) else None


async def _begun(merging: Merging, alias: Doc, survivor: Doc) -> Doc:
    """Return the timer of an un-merging that was begun before, and not finished: it has what belongs to the loser.

    Should it be gone, nobody knows what was said since: then the loser agreed to nothing.
    """
    store, tenant, loser = merging.store, alias["tenant"], alias["id"]
    # It stands in what is still to be written of the survivor, when a process died.
    await store.catch_up(tenant, [survivor["id"]])
    key = timer_of(UNMERGE, tenant, loser, survivor["id"], "", alias["merged_at"]).key
    timer = await store.get("timer", key)
    if timer is not None and "waits" in timer:
        return timer
    made = timer_of(UNMERGE, tenant, loser, survivor["id"], iso_now()).doc
    consents = withdrawn(alias["frozen"], survivor, consents_of(alias["frozen"]))
    return made | {"waits": [], "consents": consents, "agreed": consents_of(survivor)}


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
    return restored(alias["frozen"], timer["profile"], timer["waits"], timer["consents"], iso_now())


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


async def _withdraw(merging: Merging, timer: Doc) -> None:
    """Let the loser withdraw what was withdrawn on its way back, as long as its events were still the survivor's."""
    tenant, loser = timer["tenant"], timer["loser"]
    for _ in range(ATTEMPTS):
        survivor = await find_living(merging.store, tenant, timer["profile"])
        found = await read_stored(merging.store, tenant, loser)
        if survivor is None or found is None or _withdrawing(found.doc, survivor, timer) is None:
            return
        if await merging.write(tenant, loser, partial(_withdrawing, survivor=survivor, timer=timer)):
            return
    raise BusyError("the profile is written all the time")


def _withdrawing(profile: Doc, survivor: Doc, timer: Doc) -> Doc | None:
    """Return a profile without the consents of which the survivor's is a later no; None when there are none."""
    names = said_since({CONSENTS: timer["agreed"]}, survivor)
    theirs = [name for name, said in consents_of(survivor).items() if name in names and not is_given(said)]
    known, mine = consents_of(profile), {} if is_merged(profile) else withdrawn(profile, survivor, theirs)
    noes = {name: no for name, no in mine.items() if is_said_later(no, known[name])}
    return {**profile, CONSENTS: known | noes} if noes else None


async def fire_unmerge(parts: Parts, leased: Leased, now: datetime) -> Doc:
    """Finish what was begun to take two profiles apart; returns its timer as it is to be kept."""
    merging = Merging(parts.store, parts.locks)
    await _bring_back(merging, leased.doc)
    moved = await _give_back(merging, leased.doc)
    await _withdraw(merging, leased.doc)
    kept = {name: value for name, value in leased.doc.items() if name not in HELD}
    return {**kept, "status": "fired", "ended": iso(now), "moved": moved}
