"""Replays events for good, each at most once."""

from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import NamedTuple, cast

from headrace.engine.files.source import Source
from headrace.engine.files.workspace import Workspace
from headrace.engine.model import Doc, iso, make_key, utc_now
from headrace.engine.note import note
from headrace.engine.parts import Parts
from headrace.engine.replay.dry import is_tick, past_job
from headrace.engine.replay.overlay import Through
from headrace.engine.replay.past import REFUSED
from headrace.engine.request import Incoming, Job
from headrace.engine.steps.failed import RESENT
from headrace.engine.store.protocol import Store
from headrace.engine.story import REPLAY
from headrace.engine.track import commit_all
from headrace.engine.workflow import Workflow


class Applied(NamedTuple):
    """What became of an event: `outcome` is applied, before (it was already), refused, or left out; `why` says more."""

    event: Doc
    workflow: str
    outcome: str
    why: str = ""


async def apply_failed(parts: Parts, workspace: Workspace, event: Doc) -> Applied:
    """Send a failed event again under its own id, through all steps and workflows.

    Its key is that of the event, so that one which is accepted, now or by its client, is never taken twice. Unless it
    is refused again as the same failed event, that is marked as sent again. Raises InputError, StoreError, BusyError.
    """
    source = _source_of(workspace, event)
    if source is None:
        return Applied(event, "", "left out", _no_source(event))
    job = await _commit(parts, past_job(source, event, workspace, utc_now()))
    key = event[REFUSED]["key"]
    if all(row.key != key for attempt in job.committed for row in attempt.draft.failed):
        await parts.store.amend("failed", key, partial(marked, event["key"]))
    return _told(event, "", job)


def marked(event: str, doc: Doc) -> Doc | None:
    """Return a failed event that says when it was sent again, as the event with that key; None: it says so already."""
    if "resent" in doc:
        return None
    return doc | {"status": RESENT, "resent": {"at": iso(utc_now()), "event": event}}


async def apply_workflow(parts: Parts, workspace: Workspace, workflow: Workflow, event: Doc) -> Applied:
    """Run one workflow for an event that was processed. Raises StoreError, BusyError.

    It is kept as an event of the type `replay`, whose key is made of the event's, the workflow's name and its version:
    a second time changes nothing. Effects and timers belong to that event.
    """
    name, kind = workflow.name, event["type"]
    source = _source_of(workspace, event)
    if source is None or not (workflow.matches(kind) or is_tick_of(event, workflow)):
        why = f"it takes no events of the type '{kind}'" if source else _no_source(event)
        return Applied(event, name, "left out", why)
    # Of this type the workflow stands alone; what it causes meets the whole workspace.
    alone = workspace.only(kind, workflow)
    key = replay_key(event, workflow)
    job = past_job(source, event, alone, utc_now())
    (incoming,) = job.incoming
    job.incoming = [Incoming(incoming.input, incoming.id, key, key, incoming.happened)]
    job.alike = job.alike | {"replay_of": event["key"]}
    about = {
        "id": key,
        "type": REPLAY,
        "door": REPLAY,
        "properties": {"event": event["id"], "type": kind, "workflow": name, "version": workflow.version},
    }
    through = cast("Store", Through(parts.store, event, key, about))
    return _told(event, name, await _commit(replace(parts, store=through), job))


def _source_of(workspace: Workspace, event: Doc) -> Source | None:
    """Return the source of an event; None when it is there no more, or is another tenant's now."""
    source = workspace.sources.get(event["source"])
    return source if source is not None and source.tenant == event["tenant"] else None


def _no_source(event: Doc) -> str:
    return f"the tenant '{event['tenant']}' has no source '{event['source']}' any more"


def is_tick_of(event: Doc, workflow: Workflow) -> bool:
    """Say whether an event is a tick of a workflow's schedule."""
    return is_tick(event) and event["properties"].get("workflow") == workflow.name


def replay_key(event: Doc, workflow: Workflow) -> str:
    """Return the key under which a version of a workflow runs once for an event."""
    return make_key("event", REPLAY, event["key"], workflow.name, workflow.version)


async def _commit(parts: Parts, job: Job) -> Job:
    job.ends = perf_counter() + parts.settings.request_deadline_seconds
    await commit_all(parts, job)
    note(parts, job)
    return job


def _told(event: Doc, workflow: str, job: Job) -> Applied:
    for attempt in job.committed:
        for error in attempt.errors:
            return Applied(event, workflow, "refused", f"{error.code}: {error.message}")
        if attempt.duplicates:
            return Applied(event, workflow, "before", "it was taken already" if REFUSED in event else "")
    failed = [
        run.error for attempt in job.committed for each in attempt.passages for run in each.runs if run.error
    ]
    skipped = [why for attempt in job.committed for each in attempt.passages for _, why in each.skipped]
    why = failed[0] if failed else f"skipped: {skipped[0]}" if skipped and workflow else ""
    return Applied(event, workflow, "applied", why)
