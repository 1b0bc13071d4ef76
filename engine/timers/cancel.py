"""Cancels a run that waits, so that it surely never goes on."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from headrace.engine.draft import Draft
from headrace.engine.errors import BusyError
from headrace.engine.identity.follow import follow
from headrace.engine.identity.merge import MERGE, UNMERGE
from headrace.engine.model import Doc, doc_key, iso, utc_now
from headrace.engine.store.protocol import AmendKind, Ask, Committed, Ref, State
from headrace.engine.timers.outcome import Ending, Outcome, ended, mark_of
from headrace.engine.timers.waiting import take_waits

ATTEMPTS = 20
RUN = "run"


class Kept(State, Ask, Protocol):
    """The part of a store that this needs."""

    async def amend(self, kind: AmendKind, key: str, change: Callable[[Doc], Doc | None]) -> Doc | None:
        """Change one timer as it is now and return it."""
        ...


class Refused(NamedTuple):
    """Why a timer was not cancelled: a code word and a sentence."""

    code: str
    reason: str


NONE = Refused("no_timer", "There is no such timer.")
OVER = Refused("is_over", "The timer was fired, cancelled or given up already.")


async def cancel(store: Kept, tenant: str, key: str, reason: str) -> Doc | Refused:
    """Cancel a timer and return it as it is then. Raises StoreError; BusyError when its profile is very busy.

    The run of a timer either goes on or is cancelled, by the same mark that lets it go on only once.
    """
    doc = await store.get("timer", key)
    if doc is None or doc.get("tenant") != tenant:
        return NONE
    outcome = Outcome()
    outcome.cancelled(reason)
    if doc.get("kind") == RUN and doc["status"] in ("pending", "dead"):
        earlier = await _commit(store, doc, outcome)
        if earlier is not None:
            outcome = earlier
    elif doc["status"] != "pending":
        return OVER
    elif doc.get("kind") == "wake":
        return Refused("is_wake", f"It wakes a run: cancel the timer of node {doc['node']} instead.")
    elif doc.get("kind") in (MERGE, UNMERGE):
        return Refused(
            "is_merge", "It finishes what was begun with two profiles, which must not stay half done."
        )
    amended = await store.amend("timer", key, lambda now: ended(now, outcome))
    return (amended or NONE) if outcome.ending is Ending.CANCELLED else OVER


async def _commit(store: Kept, timer: Doc, outcome: Outcome) -> Outcome | None:
    """Make the mark of a timer; returns what became of it when somebody was earlier."""
    tenant, asked = timer["tenant"], timer["profile"]
    for _ in range(ATTEMPTS):
        now = iso(utc_now())
        profile = None if asked is None else await follow(store, tenant, asked)
        draft = Draft(tenant, now)
        refs = [Ref("seen", timer["id"])]
        if profile is not None:
            refs.append(Ref("profile", doc_key("profile", tenant, profile)))
        mark, *found = await store.read(refs)
        if mark is not None:
            earlier = Outcome()
            earlier.read(mark.doc)
            return earlier
        if found and found[0] is not None:
            # Its version decides, as when the run goes on, even if nothing in it changes.
            draft.use_profile(found[0].doc, found[0].version)
            take_waits(draft, timer)
        draft.marks.append(mark_of(timer, outcome))
        if isinstance(await store.commit(draft.change()), Committed):
            return None
    raise BusyError("the profile of the timer is written all the time")
