"""The last step: what the client is told."""

from typing import Any

from headrace.engine.draft import NOTES
from headrace.engine.identity.follow import find_living
from headrace.engine.model import Answer, Doc
from headrace.engine.request import Attempt, Job
from headrace.engine.store.protocol import Store
from headrace.engine.trace import WHY_NOT, full_trace


def answer(job: Job, profile: Doc | None) -> Answer:
    """Return the answer to a request whose attempts are all durable."""
    admission, committed = job.admission, job.committed
    response: Doc = {}
    for attempt in committed:
        for passage in attempt.passages:
            response |= passage.response
    return Answer(
        consent=job.source.file.consent,
        profile=None if profile is None else shown_profile(job, profile),
        session_id=job.request.session_id,
        events=[event.id for event in job.incoming],
        errors=[error for attempt in committed for error in attempt.errors],
        response=response,
        debugging=debugging(job) if admission.debugger else None,
        debugger_refused=admission.debugger_refused,
    )


async def visitor(store: Store, job: Job) -> Doc | None:
    """Return the profile that the answer names: the request's, or that of the first of events sent again."""
    written = [
        attempt.draft.profile for attempt in job.committed if attempt.written and attempt.draft.profile
    ]
    if written:
        return written[-1]
    for attempt in job.committed:
        # Nothing was written: a profile that the draft made does not exist.
        if attempt.duplicate_of is not None and await _is_own(store, job, attempt):
            return await find_living(store, job.tenant, attempt.duplicate_of)
        if attempt.draft.profile is not None and not attempt.draft.profile_is_new:
            return attempt.draft.profile
    return None


async def _is_own(store: Store, job: Job, attempt: Attempt) -> bool:
    """Say whether who sends an event again may be told whose it is.

    Anybody may send to a source without keys, and ids can be guessed: there it takes the session of the first time.
    """
    if not job.source.is_public:
        return True
    first = next(event for event in job.incoming if event.id == attempt.duplicates[0])
    event = await store.get("event", first.key)
    return event is not None and event["session"] == job.request.session_id


def shown_profile(job: Job, profile: Doc) -> Doc:
    """Return as much of a profile as the client asked for and may see."""
    if not job.request.options.profile:
        return {"id": profile["id"]}
    source = job.source
    if source.file.answers_profile or not source.is_public:
        # What the engine notes for itself is for the read API.
        return {name: value for name, value in profile.items() if name not in NOTES}
    traits = {
        name: profile["traits"][name] for name in source.file.public_traits if name in profile["traits"]
    }
    return {"id": profile["id"], "segments": profile["segments"], "traits": traits}


def debugging(job: Job) -> Doc:
    """Return what happened, as the debugger shows it: saved documents, executions, segments, logs."""
    committed = job.committed
    written = [attempt for attempt in committed if attempt.written]
    sessions = _ids(attempt.draft.session for attempt in written if saved_session(attempt))
    profiles = _ids(attempt.draft.profile for attempt in written if "profile" in attempt.draft.touched)
    events = [row.doc for attempt in committed for row in attempt.draft.events]
    last = next((attempt.draft.profile for attempt in reversed(committed) if attempt.draft.profile), None)
    return {
        "session": _saved(sessions),
        "events": _saved([event["id"] for event in events])
        | {
            "types": list(dict.fromkeys(event["type"] for event in events)),
            "errors": [
                f"{error.event}: {error.message}" for attempt in committed for error in attempt.errors
            ],
            "duplicates": [event for attempt in committed for event in attempt.duplicates],
        },
        "profile": _saved(profiles),
        "execution": _execution(committed),
        "segmentation": {"errors": [], "ids": list(last["segments"]) if last else []},
        "logs": [line for attempt in committed for passage in attempt.passages for line in passage.log],
    }


def saved_session(attempt: Attempt) -> bool:
    """Say whether the attempt wrote its session for all to see."""
    draft = attempt.draft
    return draft.session is not None and draft.save_session and "session" in draft.touched


def _ids(docs: Any) -> list[str]:
    return list(dict.fromkeys(doc["id"] for doc in docs if doc is not None))


def _saved(ids: list[str]) -> Doc:
    return {"saved": len(ids), "errors": [], "ids": ids, "types": []}


def _execution(committed: list[Attempt]) -> Doc:
    execution: Doc = {}
    for attempt in committed:
        for passage in attempt.passages:
            event = passage.event
            traces = [full_trace(run, event["id"]) for run in passage.runs]
            for workflow, why in passage.skipped:
                traces.append({"workflow": workflow.name, "event": event["id"], "skipped": WHY_NOT[why]})
            if traces:
                execution.setdefault(event["type"], []).extend(traces)
    return execution
