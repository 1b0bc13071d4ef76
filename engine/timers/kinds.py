"""What a worker does with each kind of timer."""

from collections.abc import Mapping
from datetime import datetime

from headrace.engine.errors import BusyError
from headrace.engine.identity.merge import MERGE, UNMERGE, fire_merge
from headrace.engine.identity.unmerge import fire_unmerge
from headrace.engine.model import Doc, from_iso, iso
from headrace.engine.parts import Parts
from headrace.engine.store.protocol import Leased, Ref
from headrace.engine.timers.outcome import Ending, Outcome, ended, read_mark
from headrace.engine.timers.resume import LOST_AFTER, resume
from headrace.engine.timers.waiting import timer_key
from headrace.engine.timers.worker import Fires


async def fire_run(parts: Parts, leased: Leased, now: datetime) -> Doc:
    """Go on with a run whose time has come; returns its timer as it is to be kept."""
    outcome = await resume(parts, leased.doc, now)
    if outcome.ending is Ending.NOTHING:
        # It was due too early, after a fault perhaps.
        held = leased.doc["held"].values()
        return leased.doc | {"status": "pending", "due": min(one["due"] for one in held)}
    return ended(leased.doc, outcome)


async def fire_wake(parts: Parts, leased: Leased, now: datetime) -> Doc:
    """Go on with a run whose event has come; returns the wake as it is to be kept."""
    wake = leased.doc
    timer = await newest_timer(parts, wake, now)
    if timer is None:
        return {**wake, "status": "fired", "ended": iso(now)}
    outcome = await resume(parts, timer, now)
    await keep(parts, timer, outcome)
    return {**wake, "status": "fired", "ended": iso(now)}


async def keep(parts: Parts, timer: Doc, outcome: Outcome) -> None:
    """Write what became of a timer that its worker did not come to yet."""
    if outcome.ending is not Ending.NOTHING:
        await parts.store.amend("timer", timer["id"], lambda doc: ended(doc, outcome))


async def newest_timer(parts: Parts, wake: Doc, now: datetime) -> Doc | None:
    """Return the timer in which a run waits now; None when it does not any more.

    Raises BusyError when it may still be on its way into the store.
    """
    number, waits, timer = wake["number"], True, None
    while waits:
        key = timer_key(wake["event"], wake["workflow"], number)
        (mark,) = await parts.store.read([Ref("seen", key)])
        timer = await parts.store.get("timer", key) if mark is None else None
        if mark is not None:
            waits = read_mark(mark.doc).get("waits") is True
        elif timer is not None and "input" not in timer:
            # It has ended, and its mark is not where it can be read yet.
            waits = timer.get("waits") is True
        else:
            break
        number += 1
    if timer is None and waits and now - from_iso(wake["created"]) < LOST_AFTER:
        raise BusyError("the timer of the run is not written yet")
    return timer if waits else None


KINDS: Mapping[str, Fires] = {"run": fire_run, "wake": fire_wake, MERGE: fire_merge, UNMERGE: fire_unmerge}
"""What a worker does with each kind of timer."""
