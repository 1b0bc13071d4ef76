"""Goes on with a run that waited, once, in one commit."""

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from time import perf_counter

from headrace.engine.draft import HIDDEN, Draft
from headrace.engine.errors import BusyError
from headrace.engine.files.source import Source, SourceFile, compile_source
from headrace.engine.held import Left
from headrace.engine.identity.values.decide import Decision
from headrace.engine.locks import Held
from headrace.engine.model import Doc, TrackRequest, doc_key, from_iso, is_consented, iso, iso_now, make_key
from headrace.engine.note import note
from headrace.engine.parts import Parts
from headrace.engine.passage import Passage, Surroundings
from headrace.engine.reads import StoreReads
from headrace.engine.request import Admission, Attempt, Job, Wants
from headrace.engine.run import run_workflow
from headrace.engine.steps import segments
from headrace.engine.steps.admit import INTERNAL, sampled
from headrace.engine.steps.process import emit
from headrace.engine.steps.resolve import ProfileReader
from headrace.engine.steps.workflows import has_agreed, run_started
from headrace.engine.store.protocol import CLAIMED, LATE, Claim, Ref, Row, Stored
from headrace.engine.timers.outcome import Outcome, mark_of, why_cancelled
from headrace.engine.timers.waiting import before_of, held_of, hold, take_waits
from headrace.engine.trace import run_record, skipped_record, traced
from headrace.engine.track import commit, commit_part, nodes_end
from headrace.engine.view import plain

LOST_AFTER = timedelta(minutes=10)
"""How long what another process may still have to write is waited for."""

ALIKE = ("context", "source", "tenant", "door", "device", "page", "utm")
"""What internal events have of the event that the run is about."""


async def resume(parts: Parts, timer: Doc, now: datetime, cancel: str = "") -> Outcome:
    """Go on with the run of a timer, as far as what it waits for has come; or cancel it, for a reason.

    Everything is one commit with a mark under the timer's key, so it happens once, whoever tries how often.
    Raises StoreError, BusyError; VersionError when the run's version cannot be used here.
    """
    resumption = Resumption(parts, timer, now, cancel)
    await resumption.run()
    return resumption.outcome


class Resumption:
    """One try of one worker to go on with a run: a job of its own, whose attempts begin from the timer."""

    def __init__(self, parts: Parts, timer: Doc, now: datetime, cancel: str = "") -> None:
        self.parts = parts
        self.timer = timer
        self.now = now
        self.cancel = cancel
        self.outcome = Outcome()
        workspace = parts.live.current
        source = workspace.sources.get(timer["source"]) or _stand_in(timer)
        tracing = source.file.trace or sampled(parts.settings.trace_sample)
        request = TrackRequest(source.id, [], INTERNAL, now, profile_less=True)
        admission = Admission(source, tracing, debugger=False, debugger_refused=False, not_kept="")
        self.job = Job(request, admission, workspace)
        self.job.tenant = timer["tenant"]
        # A run that goes on is about its profile, and no session moves by it.
        self.job.may_detour = frozenset((Decision.MERGED,))
        self.job.ends = perf_counter() + parts.settings.request_deadline_seconds
        self.job.alike = {name: timer["input"][name] for name in ALIKE if name in timer["input"]}

    async def run(self) -> None:
        """Go on, as `resume` does; `outcome` tells what became of it, the job's attempts what ran."""
        self.job.attempt = self.attempt
        await commit_part(self.parts, self.job, 0, Wants())
        note(self.parts, self.job)

    async def attempt(self, parts: Parts, job: Job, start: int, wants: Wants, held: Held) -> int | None:
        """Make one attempt; None when its commit lost a race."""
        self.outcome = Outcome()
        draft, mark = await self._resolve(wants, held)
        attempt = Attempt(draft, self._around(draft))
        if mark is not None:
            self.outcome.read(mark.doc)
            return start
        if self.timer["profile"] is not None and draft.profile is None:
            self.outcome.cancelled("the profile is gone")
            return start
        entries = take_waits(draft, self.timer)
        reason = self.cancel or why_cancelled(self.timer, job.workspace)
        reason = reason or await self._lacks_consent(draft)
        if reason:
            self.outcome.cancelled(reason)
        else:
            leaving = [left async for left in self._leaving(entries)]
            if not leaving:
                return start
            await self._go_on(attempt, entries, leaving)
        draft.marks.insert(0, mark_of(self.timer, self.outcome))
        if not await commit(parts, job, attempt):
            return None
        job.committed.append(attempt)
        return start

    async def _resolve(self, wants: Wants, held: Held) -> tuple[Draft, Stored | None]:
        """Return a draft with the run's session and profile as they are now, under their locks, and the mark."""
        timer, store, tenant = self.timer, self.parts.store, self.job.tenant
        draft = Draft(tenant, self.job.received)
        draft.timed, draft.came_by = self.job.workspace.timed, self.job.came_by
        refs = [Ref("seen", timer["id"])]
        session_id, profile_id = timer["session"] or wants.session, timer["profile"] or wants.profile
        if session_id is not None:
            key = doc_key("session", tenant, session_id)
            await held.take(key)
            refs.append(Ref("session", key))
        mark, *found = await store.read(refs)
        session = found[0] if found else None
        if session_id is not None:
            draft.sessions[session_id] = session
        reader = ProfileReader(draft, store, held, recent=False)
        profile = None if profile_id is None else await reader.hold(profile_id)
        if timer["profile"] is not None and profile is not None:
            draft.use_profile(profile.doc, profile.version)
        ids = profile.doc["ids"] if profile is not None else ()
        if timer["session"] is not None and session is not None and _is_of(session.doc, ids):
            draft.use_session(session.doc, session.version)
            if profile is not None:
                draft.link_session()
        return draft, mark

    async def _lacks_consent(self, draft: Draft) -> str:
        """Return which of the consents that the run's source or workflow needs does not hold any more, or ""."""
        name = self.timer["workflow"]
        workflow = self.job.workspace.workflow(name)
        if workflow is None:
            # Its file is broken: what it asked for when the run began still holds.
            workflow = await self.parts.versions.find(name, self.timer["version"])
        needed = workflow.takes.consent
        if not workflow.before_consent:
            needed = (*self.job.source.consents, *needed)
        lacking = next(
            (name for name in needed if not is_consented(draft.profile, name, iso(self.now))), None
        )
        return "" if lacking is None else f"the consent {lacking} does not hold any more"

    def _around(self, draft: Draft) -> Surroundings:
        parts, job = self.parts, self.job
        reads = StoreReads(parts.store, draft, self.now)
        ends = nodes_end(parts, job)
        return Surroundings(
            reads,
            parts.http,
            parts.secret,
            job.admission.tracing,
            parts.zone,
            ends,
            versions=parts.versions,
            ground=job.ground,
        )

    async def _leaving(self, entries: dict[str, Doc]) -> AsyncIterator[Left]:
        """Yield the nodes that are left now: their time has come, or their event."""
        for name, held in self.timer["held"].items():
            due, met = from_iso(held["due"]), entries.get(name, {}).get("met")
            wake = None if met is None else await self.parts.store.get("timer", met)
            if wake is not None:
                yield name, held["received"], wake["result"]
            elif met is not None and self.now < due + LOST_AFTER:
                raise BusyError("what woke the run is not written yet")
            elif due <= self.now:
                yield name, held["port"], held["result"]

    async def _go_on(self, attempt: Attempt, entries: dict[str, Doc], leaving: list[Left]) -> None:
        """Run what follows, and put all that comes of it into the draft."""
        job, timer = self.job, self.timer
        before = before_of(timer, leaving)
        for name, entry in entries.items():
            if name in before.held and "met" in entry:
                before.held[name] = {**before.held[name], "met": entry["met"]}
        workflow = await self.parts.versions.find(timer["workflow"], timer["version"])
        passage = Passage(
            attempt.draft,
            plain(timer["input"]),
            timer["event"],
            job.source_doc,
            self.now,
            attempt.around,
            attempt.renew_budget(),
            timer["depth"],
        )
        passage.save = timer["save"]
        passage.consents = job.source.consents
        segments.guard(passage, job.workspace.watched)
        if timer["profile"] is not None and attempt.draft.profile is not None:
            # The one that it has now: profiles are merged.
            passage.event["profile"] = attempt.draft.profile["id"]
        run = await run_workflow(traced(workflow) if job.admission.tracing else workflow, passage, before)
        run.by = timer.get("started_by", "")
        if passage.starts:
            await run_started(passage, job.workspace.workflow, partial(self._claim, attempt.draft))
        if has_agreed(passage):
            # The event itself was counted, and its goals were kept, when it came.
            await segments.evaluate_segments(passage, job.workspace, again=timer["id"])
        await hold(passage)
        attempt.draft.touch(passage.edits)
        attempt.draft.effects += passage.effects
        self.outcome.fired(list(_records(passage)), waits=bool(held_of(run)) and not run.stopped)
        attempt.passages.append(passage)
        for emitted in passage.emitted:
            await emit(job, attempt, passage, emitted, job.received)
        self._link(attempt.draft)

    def _link(self, draft: Draft) -> None:
        """Let it be known whose the event is when the run gave it a profile: its document says that it has none.

        With the session that a run attached only the mark and the timer say so.
        """
        timer, docs = self.timer, {"profile": draft.profile, "session": draft.session}
        self.outcome.late = {
            name: doc["id"] for name, doc in docs.items() if doc is not None and timer[name] is None
        }
        if "profile" in self.outcome.late:
            profile = self.outcome.late["profile"]
            # Two runs of an event may each bring one: then it is both's.
            key = make_key("late", timer["id"], profile)
            draft.claims.append(Claim(key, profile, {LATE: timer["event"]}))

    async def _claim(self, draft: Draft, workflow: str) -> bool:
        """Take a workflow that the run starts: another run of the event, which waited too, may start it as well."""
        timer = self.timer
        key = make_key("started", timer["event"], workflow)
        (seen,) = await self.parts.store.read([Ref("seen", key)])
        if seen is not None:
            return False
        whose = timer["profile"] if draft.profile is None else draft.profile["id"]
        mark = {"id": "", "profile": whose, "content": "started", "received": iso_now()}
        draft.marks.append(Row(key, mark))
        return True


def _records(passage: Passage) -> Iterator[Doc]:
    for run in passage.runs:
        yield run_record(run)
    for skipped in passage.skipped:
        yield skipped_record(skipped.workflow, skipped.why)


def _stand_in(timer: Doc) -> Source:
    """Return a source in place of one that is not declared any more."""
    return compile_source(timer["source"], SourceFile(tenant=timer["tenant"]), lambda _: None)


def _is_of(session: Doc, ids: Sequence[str]) -> bool:
    """Say whether a session is there, and of the profile that has these ids."""
    return not session.get(CLAIMED) and not session.get(HIDDEN) and session["profile"] in (None, *ids)
