"""Moves the clock of a test, and lets happen what comes meanwhile."""

from datetime import timedelta

from headrace.engine.draft import CAME_BY
from headrace.engine.files.source import Source
from headrace.engine.model import iso
from headrace.engine.schedule import ticks_between
from headrace.engine.segments.asked import Asked
from headrace.engine.segments.sweep import Look, differs
from headrace.engine.testing.dry import Dry, Processed
from headrace.engine.workflow import Workflow


async def advance(dry: Dry, source: Source, workflow: Workflow, length: timedelta) -> list[Processed]:
    """Move the clock on, tick by tick of the workflow's schedule, while runs that wait go on when their time comes.

    At the end segments follow the time. Returns what was processed on the way.

    Raises ValueError for too many ticks.
    """
    until, processed = dry.now + length, []
    schedule = workflow.file.on.schedule
    for tick in ticks_between(workflow, dry.now, until, dry.zone) if schedule else ():
        processed += await dry.fire(tick)
        dry.now = tick
        if schedule is not None:
            processed += await dry.tick(source, workflow, schedule)
    processed += await dry.fire(until)
    dry.now = until
    return processed + await sweep(dry, source)


async def sweep(dry: Dry, source: Source) -> list[Processed]:
    """Take profiles in and out of segments that time alone changes, once; returns what came of it."""
    segments, processed = dry.workspace.watched.timed, []
    asked = Asked(dry.workspace.sources, source.tenant)
    is_swept = segments and asked.has_source
    kept = [doc for ref, doc in dry.store.docs.items() if ref.kind == "profile"] if is_swept else []
    for profile in kept:
        if source.tenant in dry.workspace.asking:
            # What a test gives came by its source.
            profile.setdefault(CAME_BY, [source.id])
        if profile["tenant"] == source.tenant and differs(profile, asked, segments, dry.now):
            named = {**profile, CAME_BY: [source.id]}
            look = Look(dry.parts, asked, segments, named, iso(dry.now), dry.now)
            look.job.is_watched = True
            await look.run()
            passages = [passage for attempt in look.job.committed for passage in attempt.passages]
            processed.append(Processed(passages, []))
    return processed
