"""Step 10: which segments does the profile enter or leave?"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from headrace.engine.draft import PAST, without_own
from headrace.engine.errors import NodeError
from headrace.engine.files.watched import Computed, Watched
from headrace.engine.files.workspace import Workspace
from headrace.engine.journal import MAX_EMIT_DEPTH
from headrace.engine.language.past import Aggregate
from headrace.engine.language.scope import Scope
from headrace.engine.model import Doc, from_iso, make_key
from headrace.engine.needs import Reads
from headrace.engine.passage import Emitted, Passage
from headrace.engine.segments.past import add_event, fresh, unknown

ENTERED, LEFT = "segment-entered", "segment-left"
"""The types of the internal events that a computed segment makes."""

NOTHING: Doc = {}
"""What is known of the past of a profile that has none."""

MOST_LEARNED = 1000
"""Events of one profile that are read when its past is asked for the first time; more are left to the rebuild."""

LAG = timedelta(seconds=10)
"""How long what was committed may not be where questions look for it."""


def guard(passage: Passage, watched: Watched) -> None:
    """Keep the nodes of an event from writing computed segments."""
    if watched.computed:
        passage.docs["computed"] = watched.computed


def begin_past(passage: Passage, watched: Watched) -> None:
    """Note that a new profile has no past: nothing of an event counts to which nobody agreed, and none came before."""
    draft = passage.draft
    if watched.past and draft.profile is not None and draft.profile_is_new and PAST not in draft.own:
        draft.own = {**draft.own, PAST: fresh(watched.past)}


async def evaluate_segments(passage: Passage, workspace: Workspace, *, again: str = "") -> None:
    """Put the profile into its computed segments, or take it out of them; both make an internal event.

    `again` is what tells a second look at an event, which counted before, from the first.
    """
    watched, draft = workspace.watched, passage.draft
    if draft.profile is None:
        return
    if watched.past or PAST in draft.own:
        if draft.own.get(PAST, NOTHING).keys() != watched.keys:
            await _look_back(passage, watched)
        event = passage.event
        aggregates, _ = watched.of_type(event["type"])
        now = passage.now.timestamp()
        is_new = aggregates and not again and passage.save and counts(event)
        if is_new and add_event(draft.own.get(PAST, NOTHING), aggregates, event, now):
            draft.touched.add("profile")
        evaluate(passage, watched.segments, again, now)
    else:
        evaluate(passage, watched.segments, again, 0.0)


def placed(
    profile: Doc,
    segments: Iterable[Computed],
    past: Doc,
    now: datetime,
    failed: Callable[[str, NodeError], None],
) -> list[str]:
    """Return the segments that a stored profile should be in, by what is known of its past, without a word to anybody.

    One whose condition cannot be asked is told to `failed`, and stays as it is, as one of which nothing is known does.
    """
    names = list(profile["segments"])
    scope = Scope({}, {**without_own(profile), "segments": names}, None, {}, now)
    for segment in segments:
        try:
            holds = segment.holds(scope, past, now.timestamp())
        except NodeError as error:
            failed(segment.name, error)
            continue
        if holds and segment.name not in names:
            names.append(segment.name)
        elif holds is False and segment.name in names:
            names.remove(segment.name)
    return names


def evaluate(passage: Passage, segments: tuple[Computed, ...], again: str, now: float) -> None:
    """Enter and leave segments, by what is known of the past. One whose condition cannot be asked stays as it is.

    `now` is the passage's, in seconds since 1970, where a segment asks for the past.
    """
    scope, profile = passage.scope, passage.draft.profile
    past = passage.draft.own.get(PAST, NOTHING)
    scope.nodes, scope.vars = {}, {}
    for segment in segments:
        try:
            holds = segment.holds(scope, past, now)
        except NodeError as error:
            passage.event.setdefault("errors", []).append(f"segment {segment.name}: {error}")
            continue
        if profile is not None and holds is not None and holds is not (segment.name in profile["segments"]):
            _move(passage, segment.name, profile, is_in=holds, again=again)
    scope.extra = {}


def _move(passage: Passage, name: str, profile: Doc, *, is_in: bool, again: str) -> None:
    kept = [other for other in profile["segments"] if other != name]
    passage.put(profile, "segments", [*kept, name] if is_in else kept, "profile.segments")
    type_ = ENTERED if is_in else LEFT
    emit_own(passage, type_, {"segment": name}, make_key("emitted", passage.key, type_, name, again))


def emit_own(passage: Passage, event_type: str, properties: Doc, key: str) -> None:
    """Make an internal event of a segment or goal; where one may not be made any more, the event says so."""
    depth, budget = passage.depth + 1, passage.budget
    budget.emits -= 1
    if depth > MAX_EMIT_DEPTH or budget.emits < 0:
        why = f"events cause others {MAX_EMIT_DEPTH} deep only" if budget.emits >= 0 else "it caused too many"
        told = ", ".join(map(str, properties.values()))
        passage.event.setdefault("errors", []).append(f"no event {event_type} of {told}: {why}")
        return
    passage.emitted.append(Emitted(event_type, properties, key, depth))


def counts(event: Doc) -> bool:
    """Say whether an event is one of the past: not one that was only run again, or that nobody consented to."""
    return "replay_of" not in event and event.get("consent") is not False


async def _look_back(passage: Passage, watched: Watched) -> None:
    """See to it that the profile's past holds what segments ask for, and nothing else, as far as it can be known."""
    draft = passage.draft
    past = draft.own.get(PAST, NOTHING)
    known = {key: kept for key, kept in past.items() if key in watched.keys}
    if draft.profile_is_new:
        known |= fresh(unknown(known, watched.past))
    else:
        known |= await _learn(passage, known, watched)
    if known.keys() != past.keys():
        others = {name: value for name, value in draft.own.items() if name != PAST}
        draft.own = {**others, PAST: known} if known else others
        draft.touched.add("profile")


async def _learn(passage: Passage, past: Doc, watched: Watched) -> Doc:
    """Return what stored events tell of aggregates that are not known; nothing while that may not be all of them."""
    profile, reads = passage.draft.profile, passage.reads
    # A replay for good sees what was before its event only: that is not all there is.
    if profile is None or "replay_of" in passage.event:
        return {}
    if getattr(reads, "lags", False):
        if passage.now - from_iso(profile["time"]["updated"]) < LAG:
            return {}
        # Not every event changes the profile. What is committed from here on makes this attempt lose its race.
        stored: Any = reads
        await stored.catch_up()
    return await learn(reads, unknown(past, watched.past), watched, passage.now)


async def learn(reads: Reads, wanted: list[Aggregate], watched: Watched, now: datetime) -> Doc:
    """Return what stored events of a profile tell of aggregates; nothing when there are too many to read."""
    patterns = {each.pattern for each in wanted}
    alone = next(iter(patterns)) if len(patterns) == 1 and "*" not in min(patterns) else None
    found = await reads.find_events(type=alone, within=None, limit=MOST_LEARNED)
    if len(found) >= MOST_LEARNED:
        return {}
    learned = fresh(wanted)
    for event in found:
        count_stored(learned, watched, event, now.timestamp())
    return learned


def count_stored(past: Doc, watched: Watched, event: Doc, now: float) -> None:
    """Count a stored event in what is learned."""
    if counts(event):
        add_event(past, watched.of_type(event["type"])[0], event, now)
