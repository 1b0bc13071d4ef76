"""Takes one event through the steps between the check and the commit."""

from headrace.engine.draft import PAST
from headrace.engine.errors import HeadraceError
from headrace.engine.files.event_type import EventType
from headrace.engine.logs import logger
from headrace.engine.model import Doc, EventError, EventInput, iso_now
from headrace.engine.passage import Emitted, Passage
from headrace.engine.request import Attempt, Incoming, Job
from headrace.engine.restart import Fault, StartAgain
from headrace.engine.steps import check, enrich, failed, goals, identify, mapping, segments, stats
from headrace.engine.steps.workflows import has_agreed, run_started, run_workflows
from headrace.engine.store.protocol import Row
from headrace.engine.timers.meeting import meet
from headrace.engine.timers.waiting import hold
from headrace.engine.trace import run_record, skipped_record


async def process(job: Job, attempt: Attempt, event: Incoming) -> None:
    """Process one event and what it emits, or keep it among the failed events.

    Raises Needs when it wants more locks, Detour when profiles are merged or the session moves first; Fault when the
    engine itself failed, with nothing of the attempt usable.
    """
    if event.key in job.faults:
        message = "the engine failed on this event; it is kept and can be sent again"
        attempt.errors.append(EventError(event.id, "engine_fault", message))
        failed.keep_failed(
            job, attempt, event, "engine_fault", [{"pointer": "", "message": job.faults[event.key]}]
        )
        return
    kind = job.workspace.event_types.get(event.input.type)
    if kind is None or job.is_reshaped or check.check(job, attempt, event, kind):
        passage = _begin(job, attempt, event)
        try:
            if kind is None or job.is_reshaped or check.holds(job, attempt, event, kind, passage):
                await _go(job, attempt, passage, event, kind)
        except (StartAgain, HeadraceError):
            raise
        except Exception as error:
            logger().error("engine fault", event_id=event.id, exc_info=True)
            raise Fault(event.key, f"{type(error).__name__}: {error}") from error


def _begin(job: Job, attempt: Attempt, event: Incoming) -> Passage:
    doc = enrich.new_event(job, attempt, event)
    received = job.request.received
    passage = Passage(
        attempt.draft, doc, event.key, job.source_doc, received, attempt.around, attempt.renew_budget()
    )
    passage.save = job.saves_events and event.input.save
    passage.consents = job.source.consents
    segments.guard(passage, job.workspace.watched)
    if job.is_reshaped:
        doc[mapping.RESHAPED] = True
    return passage


async def _go(job: Job, attempt: Attempt, passage: Passage, event: Incoming, kind: EventType | None) -> None:
    if kind is not None and kind.changes:
        mapping.reshape(passage, kind)
    if job.workspace.identifiers:
        # First of all: what is written, and who agreed to it, is the person's whose event it is.
        await identify.identify(job, passage)
    if kind is not None and kind.map and "replay_of" not in passage.event and has_agreed(passage):
        mapping.map_fields(passage, kind)
    stats.count_event(passage)
    await run_workflows(passage, job.workspace.workflows_for(passage.event["type"]))
    if passage.starts:
        await run_started(passage, job.workspace.workflow)
    if not has_agreed(passage):
        passage.event["consent"] = False
        segments.begin_past(passage, job.workspace.watched)
    elif job.workspace.watched.is_used or PAST in attempt.draft.own:
        await segments.evaluate_segments(passage, job.workspace)
        goals.evaluate_goals(passage, job.workspace)
    if attempt.draft.waits:
        await meet(passage)
    if passage.waits:
        await hold(passage)
    _keep(job, attempt, passage, event)
    for emitted in passage.emitted:
        await emit(job, attempt, passage, emitted, passage.event["time"]["happened"])


async def emit(job: Job, attempt: Attempt, parent: Passage, emitted: Emitted, happened: str) -> None:
    """Process an internal event, which came from the one before it."""
    given = EventInput(emitted.type, emitted.properties)
    incoming = Incoming(given, emitted.key, emitted.key, "", happened)
    doc = enrich.new_event(job, attempt, incoming) | {"emitted_by": parent.event["id"], "door": "internal"}
    passage = Passage(
        attempt.draft,
        doc,
        emitted.key,
        job.source_doc,
        job.request.received,
        attempt.around,
        parent.budget,
        emitted.depth,
    )
    passage.save = parent.save
    passage.consents = parent.consents
    segments.guard(passage, job.workspace.watched)
    await _go(job, attempt, passage, incoming, job.workspace.event_types.get(emitted.type))


def _keep(job: Job, attempt: Attempt, passage: Passage, event: Incoming) -> None:
    """Put what the event made into the draft.

    The passage is kept only if somebody will ask for it: what lies around until the answer slows a batch.
    """
    draft, doc, runs = attempt.draft, passage.event, passage.runs
    draft.touch(passage.edits)
    if passage.effects:
        draft.effects += passage.effects
    is_plain = not (job.is_watched or passage.log or passage.response or passage.skipped)
    for run in runs:
        doc["runs"].append(run_record(run))
        if run.error:
            doc["errors"].append(run.error)
        if run.error or run.failed:
            is_plain = False
    for skipped in passage.skipped:
        doc["runs"].append(skipped_record(skipped.workflow, skipped.why))
    doc["time"]["processed"] = iso_now()
    if passage.save:
        draft.events.append(Row(event.key, doc))
    elif event.content:
        draft.marks.append(Row(event.key, _mark(doc, event)))
    attempt.accepted += 1
    if not is_plain:
        attempt.passages.append(passage)
        return
    for run in runs:
        attempt.went_well.append(run.workflow.name)


def _mark(doc: Doc, event: Incoming) -> Doc:
    return {
        "id": event.id,
        "profile": doc["profile"],
        "session": doc["session"],
        "content": event.content,
        "received": doc["time"]["received"],
    }
