"""Runs workflows by themselves, at the times that their `on.schedule` names."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from time import perf_counter

from headrace.engine.crash import crash_point
from headrace.engine.errors import InputError
from headrace.engine.files.source import Source
from headrace.engine.files.workspace import WORKFLOWS, Workspace
from headrace.engine.logs import logger
from headrace.engine.model import (
    Caller,
    Doc,
    EventInput,
    TrackRequest,
    content_hash,
    from_iso,
    iso,
    make_key,
    new_id,
    utc_now,
)
from headrace.engine.note import note
from headrace.engine.parts import Parts
from headrace.engine.request import Job
from headrace.engine.steps.admit import INTERNAL, admit
from headrace.engine.store.protocol import Change, Leased, Page, Query, Row
from headrace.engine.track import commit_all
from headrace.engine.trigger import Schedule
from headrace.engine.wakes import look_for_ever
from headrace.engine.workflow import Workflow

KIND = "schedule"
"""The kind of a tick among the timers."""

TYPE = "schedule"
"""The type of the events that a tick makes; only the tick's workflow takes them."""

PAGE = 100
"""Profiles that are asked for at once."""

AT_ONCE = 16
"""Profiles that are worked on at the same time."""

TURN_SECONDS = 5.0
"""How long a worker goes on before it keeps how far it is; less than a lease by far."""

MOST_TICKS = 1_000
"""Ticks that a test may pass at once."""

BROKEN_WAITS = timedelta(minutes=1)
"""After how long a tick of a workflow whose file is broken comes again."""

LOOK_SECONDS = 1.0
"""How often a process looks whether a next tick must be kept."""

SOON_SECONDS = 0.02


class Scheduler:
    """Sees to it that the next tick of every schedule stands among the timers, made once by whoever is first."""

    def __init__(self, parts: Parts, clock: Callable[[], datetime] = utc_now) -> None:
        self._parts = parts
        self._clock = clock
        self._next: dict[str, tuple[str, datetime]] = {}
        self._looked = datetime.min.replace(tzinfo=UTC)

    async def run(self) -> None:
        """Look for ever."""
        await look_for_ever(self.look, LOOK_SECONDS, "schedules not kept")

    async def look(self) -> None:
        """Keep the next tick of each schedule that has none to come. Raises StoreError, BusyError."""
        now, workspace = self._clock(), self._parts.live.current
        if now < self._looked:
            # The clock was set back: what was found by the other time may be far off.
            self._next.clear()
        self._looked = now
        for workflow in workspace.workflows:
            schedule = workflow.file.on.schedule
            if schedule is None or not workflow.enabled:
                continue
            mark = mark_of(schedule, self._parts.zone)
            known, tick = self._next.get(workflow.name, ("", now))
            if known != mark or tick <= now:
                tick = await keep_next(self._parts, workflow, schedule, now)
                self._next[workflow.name] = mark, tick


def mark_of(schedule: Schedule, zone: tzinfo) -> str:
    """Return what tells a schedule from another: a tick of one that was changed since is not run.

    `zone` holds where the schedule names none.
    """
    of = schedule.zone or zone
    return content_hash((schedule.cron.source, str(of), schedule.segment, schedule.source))


def source_of(workspace: Workspace, workflow: Workflow, schedule: Schedule) -> Source | None:
    """Return the source in whose name a schedule makes its events."""
    of_on = workflow.file.on.source or ()
    name = schedule.source or next(iter(of_on), None) or next(iter(workspace.sources), "")
    return workspace.sources.get(name)


async def keep_next(parts: Parts, workflow: Workflow, schedule: Schedule, after: datetime) -> datetime:
    """Keep the first tick after a time among the timers, unless it is there; returns it."""
    tick = schedule.cron.next(after, schedule.zone or parts.zone)
    await _keep(parts, workflow, schedule, tick)
    return tick


async def _keep(parts: Parts, workflow: Workflow, schedule: Schedule, tick: datetime) -> None:
    source = source_of(parts.live.current, workflow, schedule)
    if source is not None:
        row = tick_row(workflow, mark_of(schedule, parts.zone), source.tenant, tick)
        await parts.store.commit(Change(new_id(), source.tenant, timers=[row]))


def tick_row(workflow: Workflow, mark: str, tenant: str, tick: datetime) -> Row:
    """Return a tick as a timer: whatever process makes it, its key is the same, so there is one."""
    schedule = workflow.file.on.schedule
    key = make_key(KIND, tenant, workflow.name, mark, iso(tick))
    doc = {
        "id": key,
        "kind": KIND,
        "tenant": tenant,
        "event": None,
        "workflow": workflow.name,
        "version": workflow.version,
        "node": None,
        "profile": None,
        "created": iso(utc_now()),
        "due": iso(tick),
        "status": "pending",
        "tick": iso(tick),
        "segment": schedule.segment if schedule else None,
        "schedule": mark,
    }
    return Row(key, doc)


async def fire_tick(parts: Parts, leased: Leased, now: datetime) -> Doc:
    """Do what a tick is for, or a part of it; returns the timer as it is to be kept.

    What a tick makes are events with keys of their own, so that those which were made already are made no second time.
    Raises StoreError, BusyError.
    """
    doc, workspace = leased.doc, parts.live.current
    workflow = workspace.workflow(doc["workflow"])
    if workflow is None and f"{WORKFLOWS}/{doc['workflow']}.json" in workspace.broken:
        # It may be mended; how late it runs then is bounded.
        return doc | {"due": iso(now + BROKEN_WAITS)}
    why = why_cancelled(workspace, workflow, doc, parts.zone)
    if workflow is None or why:
        return _ended(doc, "cancelled", now, why)
    schedule = workflow.file.on.schedule
    assert schedule is not None  # noqa: S101 - said to the type checker; `why_cancelled` has looked
    if "done" not in doc:
        return await _begin(parts, workflow, schedule, doc, now)
    return await _go_on(parts, workflow, schedule, doc, now)


def why_cancelled(workspace: Workspace, workflow: Workflow | None, doc: Doc, zone: tzinfo) -> str:
    """Return why a tick is not run any more, or ""."""
    if workflow is None or workflow.file.on.schedule is None:
        return "the workflow, or its schedule, is gone"
    if not workflow.enabled:
        return "the workflow is disabled"
    if mark_of(workflow.file.on.schedule, zone) != doc["schedule"]:
        return "the schedule was changed"
    source = source_of(workspace, workflow, workflow.file.on.schedule)
    if source is None or not source.enabled:
        return "its source is gone or disabled"
    return ""


async def _begin(parts: Parts, workflow: Workflow, schedule: Schedule, doc: Doc, now: datetime) -> Doc:
    """Keep the next tick, and say whether this one is still to be run: of several that were missed only the last."""
    tick = from_iso(doc["tick"])
    await keep_next(parts, workflow, schedule, now)
    newest = schedule.cron.newest(now, schedule.zone or parts.zone)
    if newest > tick:
        await _keep(parts, workflow, schedule, newest)
        return _ended(doc, "missed", now, "a later tick was due already")
    if now - tick > schedule.late:
        return _ended(doc, "missed", now, "no server was there in time")
    _ring_soon(parts)
    return doc | {"done": 0, "began": iso(now)}


async def _go_on(parts: Parts, workflow: Workflow, schedule: Schedule, doc: Doc, now: datetime) -> Doc:
    """Make the tick's event, or those of as many profiles as can be had in a turn."""
    if schedule.segment is None:
        await make_event(parts, workflow, doc, None, now)
        return _ended(doc, "fired", now) | {"done": 1}
    done, cursor, ends = doc["done"], doc.get("cursor"), perf_counter() + TURN_SECONDS
    while True:
        page = await _page(parts, doc["tenant"], schedule.segment, cursor)
        ids = [str(profile["id"]) for profile in page.items]
        for first in range(0, len(ids), AT_ONCE):
            await _make_events(parts, workflow, doc, ids[first : first + AT_ONCE], now)
            crash_point("schedule.some")
        done, cursor = done + len(ids), page.cursor
        if cursor is None:
            return _ended(doc, "fired", now) | {"done": done, "cursor": None}
        if perf_counter() > ends:
            _ring_soon(parts)
            return doc | {"done": done, "cursor": cursor}


async def _page(parts: Parts, tenant: str, segment: str, cursor: str | None) -> Page:
    """Return the next profiles of a segment, or the first ones when the cursor is of another store.

    Who had an event already gets no second one.
    """
    query = Query("profile", tenant=tenant, where={"segments": segment}, cursor=cursor, limit=PAGE)
    try:
        return await parts.store.find(query)
    except InputError:
        if cursor is None:
            raise
        return await parts.store.find(replace(query, cursor=None))


async def _make_events(
    parts: Parts, workflow: Workflow, doc: Doc, profiles: list[str], now: datetime
) -> None:
    """Process a tick's events for some profiles at the same time; what fails is raised when all have ended."""
    making = (make_event(parts, workflow, doc, profile, now) for profile in profiles)
    for ended in await asyncio.gather(*making, return_exceptions=True):
        if ended is not None:
            raise ended


async def make_event(parts: Parts, workflow: Workflow, doc: Doc, profile: str | None, now: datetime) -> None:
    """Process a tick's event for a profile, or for none; a second time changes nothing."""
    workspace, schedule = parts.live.current, workflow.file.on.schedule
    source = source_of(workspace, workflow, schedule) if schedule is not None else None
    if source is None:
        return
    tick = from_iso(doc["tick"])
    event = tick_event(workflow, tick, f"{doc['id']}/{profile or ''}")
    request = TrackRequest(
        source.id,
        [event],
        INTERNAL,
        now,
        profile_id=profile,
        profile_less=profile is None,
        caller=Caller(admin=True),
    )
    try:
        admission = admit(request, workspace, parts.settings, parts.limiter)
        job = Job(request, admission, workspace.only(TYPE, workflow))
        job.makes_profiles = False
        job.ends = perf_counter() + parts.settings.request_deadline_seconds
        await commit_all(parts, job)
    except InputError as error:
        # Erased, or its source disabled, since it was looked for.
        logger().warning("no schedule event", workflow=workflow.name, profile=profile, error=str(error))
        return
    note(parts, job)


def tick_event(workflow: Workflow, tick: datetime, event_id: str) -> EventInput:
    """Return the event of a tick, as its workflow sees it."""
    return EventInput(TYPE, {"workflow": workflow.name, "tick": iso(tick)}, id=event_id, time=iso(tick))


def ticks_between(workflow: Workflow, after: datetime, until: datetime, zone: tzinfo) -> list[datetime]:
    """Return the ticks of a workflow later than one time and no later than another.

    `zone` holds where the schedule names none. Raises ValueError for more than 1,000.
    """
    schedule = workflow.file.on.schedule
    if schedule is None or not workflow.enabled:
        return []
    found: list[datetime] = []
    for tick in schedule.cron.ticks(after, schedule.zone or zone):
        if tick > until:
            break
        if len(found) == MOST_TICKS:
            raise ValueError(f"the schedule of {workflow.name} has more than {MOST_TICKS} ticks until then")
        found.append(tick)
    return found


def _ended(doc: Doc, status: str, now: datetime, reason: str = "") -> Doc:
    told = {"reason": reason} if reason else {}
    return doc | {"status": status, "ended": iso(now)} | told


def _ring_soon(parts: Parts) -> None:
    """Let the worker look again when what is returned here is kept."""
    asyncio.get_running_loop().call_later(SOON_SECONDS, parts.wakes.timers.set)
