"""The whole story of a request, one named function per step.

admit → resolve → drop duplicates → for each event: check → enrich → identify → map → stats → workflows →
segments → goals → one commit per visitor → answer
"""

import asyncio
from time import perf_counter

from headrace.engine.crash import crash_point
from headrace.engine.errors import BusyError
from headrace.engine.identity.detour import go_round
from headrace.engine.locks import Held
from headrace.engine.model import Answer, TrackRequest
from headrace.engine.note import note
from headrace.engine.parts import Parts
from headrace.engine.passage import Budget, Surroundings
from headrace.engine.reads import StoreReads
from headrace.engine.request import Attempt, Incoming, Job, Wants
from headrace.engine.restart import Fault, HalfMerged, Needs, StartAgain
from headrace.engine.steps.admit import admit
from headrace.engine.steps.answer import answer, visitor
from headrace.engine.steps.duplicates import is_new
from headrace.engine.steps.process import process
from headrace.engine.steps.resolve import resolve
from headrace.engine.store.protocol import Committed, Frozen, Stored, Taken

NODES_SHARE = 0.8
"""How much of a request's time its nodes may take; the rest is for the commit: a slow host fails its node only."""

MOST_NEEDS = 8
"""How often an event may ask for other locks; more is a workflow that attaches two profiles in turn."""


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
    job.ends = perf_counter() + parts.settings.request_deadline_seconds
    await commit_all(parts, job)
    profile = await visitor(parts.store, job)
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
    documents. A job may bring what makes its attempts.
    """
    job.attempts = lost = 0
    while True:
        job.check_deadline()
        job.attempts += 1
        held = Held(parts.locks, job.ends)
        try:
            done = await (job.attempt or attempt_part)(parts, job, start, wants, held)
        except StartAgain as again:
            wants = next_wants(job, wants, again)
            held.release()
            await go_round(parts, job, again)
            continue
        finally:
            held.release()
        if done is not None:
            return done, Wants()
        parts.metrics.conflict()
        lost += 1
        if lost > 2:
            # Two processes that write one profile must not run in step for ever.
            await asyncio.sleep(0.001 * min(lost, 50))


async def attempt_part(parts: Parts, job: Job, start: int, wants: Wants, held: Held) -> int | None:
    """Make one attempt; returns the first event that is left, or None when the commit lost a race."""
    events = job.incoming[start : wants.end]
    draft, seen = await resolve(job, events, wants, parts.store, held)
    crash_point("track.resolved")
    reads = StoreReads(parts.store, draft, job.request.received)
    ends, parent = nodes_end(parts, job), job.request.trace_parent
    around = Surroundings(
        reads, parts.http, parts.secret, job.admission.tracing, parts.zone, ends, parent, parts.versions
    )
    around.ground = job.ground
    attempt = Attempt(draft, around)
    end = await process_events(job, attempt, start, events, seen)
    crash_point("track.ran")
    # A request that holds nothing but events sent before writes nothing.
    if (attempt.has_news or not events) and not await commit(parts, job, attempt):
        return None
    job.committed.append(attempt)
    return end


async def process_events(
    job: Job, attempt: Attempt, start: int, events: list[Incoming], seen: list[Stored | None]
) -> int:
    """Process events in order, and return the number of the first that is left for the next commit."""
    turn = Budget()
    for number, (event, stored) in enumerate(zip(events, seen, strict=True), start):
        if perf_counter() > turn.turn_ends:
            await turn.breathe()
            job.check_deadline()
        if not is_new(job, attempt, event, stored):
            continue
        try:
            await process(job, attempt, event)
        except StartAgain as again:
            # What came before the event that failed, or goes on to another profile, is committed first.
            again.end = number if attempt.has_news else None
            raise
        if job.request.profile_less and (attempt.draft.profile or attempt.draft.session_attached):
            # What this event was given is not the next one's.
            return number + 1
    return start + len(events)


def nodes_end(parts: Parts, job: Job) -> float:
    """Return when nodes that do I/O must be done, by the process's clock."""
    return job.ends - parts.settings.request_deadline_seconds * (1 - NODES_SHARE)


async def commit(parts: Parts, job: Job, attempt: Attempt) -> bool:
    """Write the attempt durably; False says that someone else was first.

    No deadline ends the wait: a client that is told 503 must know that nothing was written. But a store that tries
    again begins to only as long as the request has time.
    """
    change = attempt.draft.change()
    change.seconds = job.ends - perf_counter()
    change.continues = bool(job.committed)
    if not job.admission.debugger:
        # Nobody asks for the documents any more, and the store may drop them as soon as it has encoded them.
        attempt.draft.events = []
    committing = parts.store.commit(change)
    del change
    outcome = await committing
    crash_point("track.committed")
    if isinstance(outcome, Frozen):
        raise HalfMerged(outcome.profile)
    attempt.written = isinstance(outcome, Committed)
    if attempt.written:
        # What a later part makes is another profile.
        job.adopt = None
        parts.wakes.tell(attempt.draft.effects, attempt.draft.timers)
    if isinstance(outcome, Taken) and not attempt.draft.claims_key(outcome.key):
        job.adopt = outcome.profile
    return attempt.written


def next_wants(job: Job, wants: Wants, again: StartAgain) -> Wants:
    """Return what the next attempt wants, after one that could not go on."""
    if isinstance(again, Fault):
        job.faults[again.key] = again.reason
    if again.end is not None:
        return Wants(end=again.end)
    if not isinstance(again, Needs):
        return wants
    if wants.rounds == MOST_NEEDS:
        raise BusyError("workflows of one event attach profiles in turn")
    profile, session = again.profile or wants.profile, again.session or wants.session
    return Wants(profile, session, wants.end, wants.rounds + 1)
