"""The whole story of a request, one named function per step.

admit → resolve → drop duplicates → for each event: check → enrich → map → identify → stats → workflows →
segments → goals → one commit per visitor → answer
"""

import asyncio
from time import perf_counter

from headrace.engine.crash import crash_point
from headrace.engine.errors import BusyError
from headrace.engine.locks import Held
from headrace.engine.model import Answer, Doc, TrackRequest, make_key
from headrace.engine.note import note
from headrace.engine.parts import Parts
from headrace.engine.passage import LONGEST_TURN_SECONDS, Needs, Surroundings
from headrace.engine.reads import StoreReads
from headrace.engine.request import Attempt, Incoming, Job, Wants
from headrace.engine.steps.admit import admit
from headrace.engine.steps.answer import answer
from headrace.engine.steps.duplicates import is_new
from headrace.engine.steps.process import Fault, process
from headrace.engine.steps.resolve import resolve
from headrace.engine.store.protocol import Committed, Ref, Stored


async def track(parts: Parts, request: TrackRequest) -> Answer:
    """Take a request through all its steps; when this returns, everything in it is durable.

    Raises InputError when it is refused, BusyError or StoreError when it cannot be taken now: nothing of it was then
    acknowledged, and sending it again is harmless.
    """
    workspace = parts.live.current
    admission = admit(request, workspace, parts.settings, parts.limiter)
    if admission.not_kept:
        parts.metrics.event("not_kept", len(request.events))
        return Answer(
            admission.source.file.consent, session_id=request.session_id, not_kept=admission.not_kept
        )
    job = Job(request, admission, workspace)
    try:
        async with asyncio.timeout(parts.settings.request_deadline_seconds):
            await commit_all(parts, job)
    except TimeoutError:
        raise BusyError("the request took longer than its deadline") from None
    profile = await visitor(parts, job)
    note(parts, job)
    crash_point("track.answering")
    return answer(job, profile)


async def commit_all(parts: Parts, job: Job) -> None:
    """Commit the request's events, in order: at once, or in parts when they go on to another profile."""
    start, wants = 0, Wants()
    while True:
        start, wants = await commit_part(parts, job, start, wants)
        if start >= len(job.incoming):
            return


async def commit_part(parts: Parts, job: Job, start: int, wants: Wants) -> tuple[int, Wants]:
    """Commit events from `start` on; returns the first that is left, and what it wants.

    An attempt that lost a race, or needs another lock, leaves nothing behind and is made again from the newest
    documents.
    """
    while True:
        job.attempts += 1
        if job.attempts > 3:
            # Two processes that write one profile must not run in step for ever.
            await asyncio.sleep(0.001 * min(job.attempts, 50))
        held = Held(parts.locks)
        try:
            done = await attempt_part(parts, job, start, wants, held)
        except Needs as needs:
            wants = more_wants(wants, needs)
            continue
        except Fault as fault:
            job.faults[fault.key] = fault.reason
            continue
        finally:
            held.release()
        if done is not None:
            return done, Wants()
        parts.metrics.conflict()


async def attempt_part(parts: Parts, job: Job, start: int, wants: Wants, held: Held) -> int | None:
    """Make one attempt; returns the first event that is left, or None when the commit lost a race."""
    events = job.incoming[start : wants.end]
    draft, seen = await resolve(job, events, wants, parts.store, held)
    crash_point("track.resolved")
    reads = StoreReads(parts.store, draft, job.request.received)
    around = Surroundings(reads, parts.http, parts.secret, job.admission.tracing, parts.zone)
    attempt = Attempt(draft, around)
    end = await process_events(job, attempt, start, events, seen)
    crash_point("track.ran")
    # A request that holds nothing but events sent before writes nothing.
    if (attempt.has_news or not events) and not await commit(parts, attempt):
        return None
    job.committed.append(attempt)
    return end


async def process_events(
    job: Job, attempt: Attempt, start: int, events: list[Incoming], seen: list[Stored | None]
) -> int:
    """Process events in order, and return the number of the first that is left for the next commit."""
    turn_ends = perf_counter() + LONGEST_TURN_SECONDS
    for number, (event, stored) in enumerate(zip(events, seen, strict=True), start):
        if perf_counter() > turn_ends:
            await asyncio.sleep(0)
            turn_ends = perf_counter() + LONGEST_TURN_SECONDS
        if not is_new(job, attempt, event, stored):
            continue
        try:
            await process(job, attempt, event)
        except Needs as needs:
            # What came before the event that goes on to another profile is committed first.
            raise needs.after(number) if attempt.has_news else needs from None
        if job.request.profile_less and (attempt.draft.profile or attempt.draft.session_attached):
            # What this event was given is not the next one's.
            return number + 1
    return start + len(events)


async def commit(parts: Parts, attempt: Attempt) -> bool:
    """Write the attempt durably; False says that someone else was first."""
    outcome = await parts.store.commit(attempt.draft.change())
    crash_point("track.committed")
    attempt.written = isinstance(outcome, Committed)
    return attempt.written


def more_wants(wants: Wants, needs: Needs) -> Wants:
    """Return what the next attempt wants, after one that needed something."""
    if needs.end is not None:
        return Wants(end=needs.end)
    return Wants(needs.profile or wants.profile, needs.session or wants.session, wants.end)


async def visitor(parts: Parts, job: Job) -> Doc | None:
    """Return the profile that the answer names: the request's, or that of the first of events sent again."""
    for attempt in reversed(job.committed):
        draft = attempt.draft
        if attempt.duplicates and not attempt.has_news:
            # Nothing was written: a profile that the draft made does not exist.
            named = attempt.duplicate_of
            known = None if draft.profile_is_new else draft.profile
            return known if named is None else await read_profile(parts, job.tenant, named)
        if draft.profile is not None:
            return draft.profile
    return None


async def read_profile(parts: Parts, tenant: str, profile_id: str) -> Doc | None:
    """Return a stored profile, or None."""
    (found,) = await parts.store.read([Ref("profile", make_key("profile", tenant, profile_id))])
    return None if found is None else found.doc
