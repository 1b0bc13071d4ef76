"""Moves the clock of a test, and lets happen what comes meanwhile."""

from datetime import timedelta

from headrace.engine.files.source import Source
from headrace.engine.schedule import ticks_between
from headrace.engine.testing.dry import Dry, Processed
from headrace.engine.workflow import Workflow


async def advance(dry: Dry, source: Source, workflow: Workflow, length: timedelta) -> list[Processed]:
    """Move the clock on, tick by tick of the workflow's schedule, while runs that wait go on when their time comes.

    Returns what was processed on the way.

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
    return processed
