"""Between two attempts of an event: profiles merged, a session moved."""

import asyncio
from datetime import timedelta

from headrace.engine.crash import crash_point
from headrace.engine.draft import CAME_BY, PAST
from headrace.engine.errors import BusyError
from headrace.engine.identity.follow import MERGED, MERGING, find_living, follow
from headrace.engine.identity.merge import Merging, merge
from headrace.engine.identity.values.decide import BY_CLAIMED, CLAIMED, TRUSTED, Decision
from headrace.engine.identity.values.weigh import with_value
from headrace.engine.locks import Held
from headrace.engine.model import Doc, doc_key, from_iso, new_id, new_profile, utc_now
from headrace.engine.parts import Parts
from headrace.engine.request import Job
from headrace.engine.restart import Detour, HalfMerged, StartAgain
from headrace.engine.segments.past import fresh
from headrace.engine.store.protocol import CLAIMED as UNBEGUN
from headrace.engine.store.protocol import Change, Committed, Ref, Stored, Write

MOST_DETOURS = 40
"""Detours of one event; as each leaves one profile or session fewer in its way, more are a fault."""

ATTEMPTS = 50
"""How often a session's move is tried that others come before."""

UNMADE_SECONDS = 8.0
"""How long a profile may take that a claim names already: longer than any commit begins attempts."""

WAIT_SECONDS = 0.02


async def go_round(parts: Parts, job: Job, again: StartAgain) -> None:
    """Do what an attempt asked for, unless what came before its event is to be committed first; no lock is held.

    Raises StoreError, BusyError.
    """
    if isinstance(again, HalfMerged):
        await Merging(parts.store, parts.locks, job.ends).settled(job.tenant, again.profile)
        return
    if not isinstance(again, Detour) or again.end is not None:
        return
    if again.decision is None:
        await _wait(parts, job, again)
        return
    done = job.detours.setdefault(again.key, [])
    if len(done) == MOST_DETOURS:
        raise BusyError("an event would merge profiles, or move its session, without an end")
    told = again.decision
    if told is Decision.MOVED:
        await _move(parts, job, again, again.other or new_id())
        crash_point("identify.moved")
    elif await _is_merged(parts, job, again):
        crash_point("identify.merged")
    else:
        told = Decision.KNOWN
    done.append((again.name, told))


async def _is_merged(parts: Parts, job: Job, again: Detour) -> bool:
    """Merge two profiles; False when there was nothing of the one, so that the event goes on with the other."""
    assert again.other is not None  # noqa: S101 - of a merge it is said
    is_doubtful = again.by.startswith(BY_CLAIMED)
    if again.is_new and is_doubtful:
        # It is made, for the record of the merge is what says that strangers may have met here.
        await _make(parts, job, new_profile(again.profile, job.tenant, job.received))
    elif again.is_new and not await _make_named(parts, job, again.profile):
        job.identified = again.other
        return False
    survivor = await merge(parts, job.tenant, again.profile, again.other, again.by, again.terms)
    if again.is_new:
        job.identified = survivor
    # One of them may have changed meanwhile, so that they stayed two.
    return await follow(parts.store, job.tenant, again.other) == survivor


async def _make_named(parts: Parts, job: Job, profile: str) -> bool:
    """Make a new profile that a stored session names, so that it can be merged; False when none does."""
    session_id = job.request.session_id
    if session_id is None:
        return False
    (session,) = await parts.store.read([Ref("session", doc_key("session", job.tenant, session_id))])
    if session is None or session.doc["profile"] != profile:
        return False
    await _make(parts, job, new_profile(profile, job.tenant, job.received))
    return True


async def _make(parts: Parts, job: Job, profile: Doc) -> None:
    """Write a new profile, which has no past; one that is there already is left as it is."""
    watched = parts.live.current.watched
    if watched.past:
        profile = {**profile, PAST: fresh(watched.past)}
    if job.came_by is not None:
        profile = {**profile, CAME_BY: [job.came_by]}
    key = doc_key("profile", profile["tenant"], profile["id"])
    await parts.store.commit(Change(new_id(), profile["tenant"], profile=Write(key, profile, None)))


async def _wait(parts: Parts, job: Job, again: Detour) -> None:
    """Wait for a profile that a claim names; in the end it is made: who claimed it did not come to it."""
    asked, owner = again.asked, again.owner
    assert asked is not None and owner is not None  # noqa: S101, PT018 - who waits knows for what
    if await find_living(parts.store, job.tenant, owner.id) is not None:
        return
    if owner.since and utc_now() - from_iso(owner.since) < timedelta(seconds=UNMADE_SECONDS):
        await asyncio.sleep(WAIT_SECONDS)
        return
    made = new_profile(owner.id, job.tenant, job.received)
    made[TRUSTED if asked.is_trusted else CLAIMED] = with_value(made, asked)
    await _make(parts, job, made)


async def _move(parts: Parts, job: Job, again: Detour, target: str) -> None:
    """Give the session to another profile, made or not, with one commit of the one that it leaves.

    The record of that commit is the old profile, for its version puts all writes of its sessions in order. A session
    that is not stored yet, or none, has nobody's events: the request goes on with the other profile.
    """
    session_id = job.request.session_id
    if session_id is None:
        job.identified = target
        return
    key = doc_key("session", job.tenant, session_id)
    merging = Merging(parts.store, parts.locks, job.ends)
    for attempt in range(ATTEMPTS):
        job.check_deadline()
        # Others of the profile, and merges of it, come to their turn.
        await asyncio.sleep(0.001 * min(attempt, 50))
        held = Held(parts.locks, job.ends)
        try:
            await held.take(key)
            (session,) = await parts.store.read([Ref("session", key)])
            if session is None or session.doc.get(UNBEGUN) or session.doc["profile"] is None:
                job.identified = target
                return
            living = await merging.settled(job.tenant, session.doc["profile"])
            owner = session.doc["profile"] if living is None else living["id"]
            if owner != again.profile:
                # It went elsewhere meanwhile: the event starts again, and looks.
                return
            await held.take(doc_key("profile", job.tenant, owner))
            if await _moved(parts, session, owner, target):
                # Whom the client named has not got the session any more.
                job.identified = target
                return
        finally:
            held.release()
    raise BusyError("the session is written all the time")


async def _moved(parts: Parts, session: Stored, owner: str, target: str) -> bool:
    """Commit a move; False when somebody wrote the profile or the session meanwhile."""
    doc = session.doc
    key = doc_key("profile", doc["tenant"], owner)
    (stored,) = await parts.store.read([Ref("profile", key)])
    if stored is None:
        record = Write(key, new_profile(owner, doc["tenant"], doc["time"]["created"]), None)
    elif MERGED in stored.doc or MERGING in stored.doc:
        return False
    else:
        record = Write(key, stored.doc, stored.version)
    # Whose it was before a merge says nothing of whom it goes to.
    doc.pop("profile_then", None)
    doc |= {"profile": target, "n": doc["n"] + 1}
    write = Write(doc_key("session", doc["tenant"], doc["id"]), doc, session.version)
    change = Change(new_id(), doc["tenant"], profile=record, session=write)
    return isinstance(await parts.store.commit(change), Committed)
