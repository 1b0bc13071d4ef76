"""Lets profiles enter and leave segments when no event asks."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

from headrace.engine.crash import crash_point
from headrace.engine.draft import PAST, Draft
from headrace.engine.errors import InputError, NodeError
from headrace.engine.files.watched import Computed
from headrace.engine.files.workspace import Workspace
from headrace.engine.identity.follow import find_living
from headrace.engine.identity.merge import fire_merge
from headrace.engine.identity.values.decide import Decision
from headrace.engine.locks import Held
from headrace.engine.logs import logger
from headrace.engine.model import Doc, TrackRequest, iso, iso_now, make_key, new_id, utc_now
from headrace.engine.note import note
from headrace.engine.parts import Parts
from headrace.engine.passage import Passage, Surroundings
from headrace.engine.reads import StoreReads
from headrace.engine.request import Admission, Attempt, Job, Wants
from headrace.engine.segments.asked import Asked
from headrace.engine.segments.known import due, tenants_of
from headrace.engine.steps.admit import INTERNAL
from headrace.engine.steps.process import emit
from headrace.engine.steps.resolve import ProfileReader
from headrace.engine.steps.segments import evaluate, placed
from headrace.engine.steps.workflows import has_agreed
from headrace.engine.store.protocol import Change, Leased, Query, Row
from headrace.engine.track import commit, commit_part, nodes_end
from headrace.engine.wakes import look_for_ever

KIND = "segments"
"""The kind of a sweep among the timers."""

PAGE = 200
"""Profiles that are asked for at once."""

AT_ONCE = 16
"""Profiles that are changed at the same time."""

TURN_SECONDS = 5.0
"""How long a worker goes on before it keeps how far it is; less than a lease by far."""

LOOK_SECONDS = 1.0
"""How often a process looks whether a next sweep must be kept, and whether files changed."""

SOON_SECONDS = 0.02


class Sweeper:
    """Sees to it that the next sweep stands among the timers, once, and says when a rebuild is due."""

    def __init__(self, parts: Parts, clock: Callable[[], datetime] = utc_now) -> None:
        self._parts = parts
        self._clock = clock
        self._told: Workspace | None = None
        self._next: dict[str, datetime] = {}

    async def run(self) -> None:
        """Look for ever."""
        await look_for_ever(self.look, LOOK_SECONDS, "sweeps not kept")

    async def look(self) -> None:
        """Keep the next sweep of each tenant, and tell of segments that are new. Raises StoreError, BusyError."""
        workspace, now = self._parts.live.current, self._clock()
        watched = workspace.watched
        if not watched.segments:
            return
        if watched.timed:
            for tenant in tenants_of(workspace):
                if self._next.get(tenant, now) <= now:
                    self._next[tenant] = await keep_next(self._parts, tenant, now)
        if workspace is not self._told:
            for tenant in tenants_of(workspace):
                names = await due(self._parts.store, tenant, watched.lasting())
                if names:
                    fix = f"headrace segments rebuild --tenant {tenant} {' '.join(names)}"
                    logger().warning("segments to rebuild", tenant=tenant, segments=names, run=fix)
            self._told = workspace


async def keep_next(parts: Parts, tenant: str, now: datetime) -> datetime:
    """Keep the first sweep after a time among the timers, unless it is there; returns when it is."""
    tick = _tick(parts, now, 1)
    await _keep(parts, tenant, tick)
    return tick


def _tick(parts: Parts, now: datetime, after: int) -> datetime:
    """Return the last tick that was due, or one of those after it."""
    period = parts.settings.segments_sweep_seconds
    return datetime.fromtimestamp((now.timestamp() // period + after) * period, UTC)


async def _keep(parts: Parts, tenant: str, tick: datetime) -> None:
    key = make_key(KIND, tenant, iso(tick))
    doc = {
        "id": key,
        "kind": KIND,
        "tenant": tenant,
        "event": None,
        "workflow": None,
        "version": None,
        "node": None,
        "profile": None,
        "created": iso_now(),
        "due": iso(tick),
        "status": "pending",
        "tick": iso(tick),
        "segment": None,
    }
    await parts.store.commit(Change(new_id(), tenant, timers=[Row(key, doc)]))


async def fire_sweep(parts: Parts, leased: Leased, now: datetime) -> Doc:
    """Do a sweep, or a part of it; returns the timer as it is to be kept.

    Done twice it changes nothing more: each profile is asked anew, under its lock. Raises StoreError, BusyError.
    """
    doc, workspace = leased.doc, parts.live.current
    segments = workspace.watched.timed
    asked = Asked(workspace.sources, doc["tenant"])
    if not segments or not asked.has_source:
        reason = "time changes no segment" if asked.has_source else "the tenant has no source"
        return doc | {"status": "cancelled", "ended": iso(now), "reason": reason}
    if "done" not in doc:
        await keep_next(parts, doc["tenant"], now)
        newest = _tick(parts, now, 0)
        if newest > datetime.fromisoformat(doc["tick"]):
            # Of several that were missed only the last is done.
            await _keep(parts, doc["tenant"], newest)
            return doc | {"status": "missed", "ended": iso(now), "reason": "a later sweep was due already"}
        doc = doc | {"done": 0, "changed": 0, "cursor": None}
    return await _go_on(parts, asked, segments, doc, now)


async def _go_on(parts: Parts, asked: Asked, segments: tuple[Computed, ...], doc: Doc, now: datetime) -> Doc:
    """Ask as many profiles as can be had in a turn."""
    done, changed, cursor = doc["done"], doc["changed"], doc["cursor"]
    ends = perf_counter() + TURN_SECONDS
    while True:
        try:
            page = await parts.store.find(Query("profile", doc["tenant"], cursor=cursor, limit=PAGE))
        except InputError:
            page = await parts.store.find(Query("profile", doc["tenant"], limit=PAGE))
        found = [one for one in page.items if differs(one, asked, segments, now)]
        for first in range(0, len(found), AT_ONCE):
            looks = [
                Look(parts, asked, segments, one, doc["id"], now) for one in found[first : first + AT_ONCE]
            ]
            for ended in await asyncio.gather(*(look.run() for look in looks), return_exceptions=True):
                if ended is not None:
                    raise ended
            crash_point("segments.some")
        done, changed, cursor = done + len(page.items), changed + len(found), page.cursor
        told = doc | {"done": done, "changed": changed, "cursor": cursor}
        if cursor is None:
            return told | {"status": "fired", "ended": iso(now)}
        if perf_counter() > ends:
            asyncio.get_running_loop().call_later(SOON_SECONDS, parts.wakes.timers.set)
            return told
        await asyncio.sleep(0)


async def fire_merged(parts: Parts, leased: Leased, now: datetime) -> Doc:
    """Do what is left of a merge, and ask the segments of the profile that lives on; returns the timer as it is then.

    An event that merges asks them itself; after a person's word none may come. Raises StoreError, BusyError.
    """
    done = await fire_merge(parts, leased, now)
    tenant, segments = done["tenant"], parts.live.current.watched.lasting()
    asked = Asked(parts.live.current.sources, tenant)
    if segments and asked.has_source:
        profile = await find_living(parts.store, tenant, done["profile"])
        if profile is not None and differs(profile, asked, segments, now):
            await Look(parts, asked, segments, profile, done["id"], now).run()
    return done


def differs(profile: Doc, asked: Asked, segments: tuple[Computed, ...], now: datetime) -> bool:
    """Say whether a profile is in a segment that it should not be in, or not in one that it should.

    Of one that did not give the consents that are asked for nothing is known.
    """
    if not asked.has_agreed(profile, iso(now)):
        return False

    def failed(name: str, error: NodeError) -> None:
        logger().warning("segment not asked", segment=name, profile=profile["id"], error=str(error))

    is_in: list[str] = profile["segments"]
    return placed(profile, segments, profile.get(PAST, {}), now, failed) != is_in


class Look:
    """One look at one profile: a `job` of its own, without an event, which may enter and leave segments."""

    def __init__(
        self,
        parts: Parts,
        asked: Asked,
        segments: tuple[Computed, ...],
        profile: Doc,
        sweep: str,
        now: datetime,
    ) -> None:
        source = asked.source(profile)
        self._parts = parts
        self._asked = asked
        self._segments = segments
        self._profile = str(profile["id"])
        self._key = make_key(KIND, sweep, self._profile, iso(now))
        self._now = now
        request = TrackRequest(source.id, [], INTERNAL, now, profile_id=self._profile)
        admission = Admission(source, tracing=False, debugger=False, debugger_refused=False, not_kept="")
        self.job = job = Job(request, admission, parts.live.current)
        # It is about one profile, and no session moves by it.
        job.may_detour = frozenset((Decision.MERGED,))
        job.ends = perf_counter() + parts.settings.request_deadline_seconds
        job.attempt = self._attempt

    async def run(self) -> None:
        """Look, and commit what changed. Raises StoreError, BusyError."""
        await commit_part(self._parts, self.job, 0, Wants())
        note(self._parts, self.job)

    async def _attempt(self, parts: Parts, job: Job, start: int, wants: Wants, held: Held) -> int | None:  # noqa: ARG002
        """Make one attempt; None when its commit lost a race."""
        draft = Draft(job.tenant, job.received)
        found = await ProfileReader(draft, parts.store, held, recent=False).hold(self._profile)
        if found is None:
            return start
        draft.use_profile(found.doc, found.version)
        attempt = Attempt(draft, self._around(draft))
        passage = Passage(
            draft, self._event(), self._key, job.source_doc, self._now, attempt.around, attempt.renew_budget()
        )
        # The event that entering or leaving makes, and all that comes of it, asks for the same.
        passage.consents = (*job.source.consents, *self._asked.consents(found.doc))
        if not has_agreed(passage):
            return start
        evaluate(passage, self._segments, "", self._now.timestamp())
        if not passage.edits:
            return start
        draft.touch(passage.edits)
        for emitted in passage.emitted:
            await emit(job, attempt, passage, emitted, job.received)
        if not await commit(parts, job, attempt):
            return None
        job.committed.append(attempt)
        return start

    def _around(self, draft: Draft) -> Surroundings:
        parts, reads = self._parts, StoreReads(self._parts.store, draft, self._now)
        ends = nodes_end(parts, self.job)
        return Surroundings(
            reads,
            parts.http,
            parts.secret,
            zone=parts.zone,
            ends=ends,
            versions=parts.versions,
            ground=self.job.ground,
        )

    def _event(self) -> Doc:
        """Return what stands in the place of an event; it is not kept."""
        received: Any = self.job.received
        time = {"happened": received, "received": received, "processed": None}
        return {"id": self._key, "type": KIND, "properties": {}, "time": time, "profile": self._profile}
