"""Check the conditions of segments and goals against what is declared."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from headrace.engine.config.fields import Compiled
from headrace.engine.files.check_reads import check_members, check_read
from headrace.engine.files.event_type import EventType
from headrace.engine.files.goal import Goal
from headrace.engine.files.json_file import JsonFile, Place
from headrace.engine.files.problem import Problem
from headrace.engine.files.segment import Segment
from headrace.engine.language.past import OWN_TYPES, Aggregate
from headrace.engine.suggest import did_you_mean

Types = Mapping[str, EventType]


def check_segments(segments: Mapping[str, Segment], file: JsonFile, types: Types) -> Iterator[Problem]:
    """Find what a condition reads that is not there, and types that it counts which nobody declares."""
    for name, segment in segments.items():
        when, at = segment.when, ("segments", name, "when")
        if when is None:
            continue
        yield from _check_reads(when, file, at, None)
        yield from check_members(when, file, at, segments)
        for aggregate in when.past.values():
            yield from _check_type(aggregate.pattern, file, at, types)
            yield from _check_path(aggregate, file, at, types)
        if when.is_timed and not when.is_lasting:
            message = "it reads the event or the session, so time alone takes nobody out of it, or in"
            yield file.problem(at, "G02", message, "Ask only the profile, and events(…).")


def check_goals(
    goals: Mapping[str, Goal], file: JsonFile, types: Types, segments: Collection[str] | None = None
) -> Iterator[Problem]:
    """Find what a goal reads that is not there, and types and segments that nobody declares.

    `segments` are those that are declared; None: that is not known.
    """
    for name, goal in goals.items():
        at: Place = ("goals", name)
        for index, event in enumerate(goal.event):
            yield from _check_type(event, file, (*at, "event", index), types)
        schemas = _schemas(goal.event, types)
        for member, field in (("when", goal.when), ("value", goal.value)):
            if field is not None:
                yield from _check_reads(field, file, (*at, member), schemas)
                yield from check_members(field, file, (*at, member), segments)
        if not goal.event and (goal.when is not None or goal.value is not None):
            message = "no event achieves the goal"
            yield file.problem(at, "G03", message, 'Add "event": ["purchase-order"].')


def _check_reads(
    field: Compiled[Any], file: JsonFile, at: Place, schemas: list[dict[str, Any]] | None
) -> Iterator[Problem]:
    for read in sorted(field.reads()):
        if read[0] in ("nodes", "vars"):
            message = f"'{read[0]}' is not there: no workflow runs here"
            yield file.problem(at, "G01", message, "Read event, profile, session, source or now.")
        else:
            yield from check_read(read, file, at, schemas)


def _check_type(pattern: str, file: JsonFile, at: Place, types: Collection[str]) -> Iterator[Problem]:
    if types and "*" not in pattern and pattern not in types and pattern not in OWN_TYPES:
        fix = did_you_mean(pattern, types)
        yield file.problem(at, "N02", f"no event type '{pattern[:60]}' is declared", fix)


def _check_path(aggregate: Aggregate, file: JsonFile, at: Place, types: Types) -> Iterator[Problem]:
    if aggregate.path:
        yield from check_read(("event", *aggregate.path), file, at, _schemas([aggregate.pattern], types))


def _schemas(events: Collection[str], types: Types) -> list[dict[str, Any]] | None:
    """Return the schemas of all of some types; None when one of them has none, or may be any."""
    found: list[dict[str, Any]] = []
    for event in events:
        shapes = types[event].shapes if event in types else None
        if shapes is None:
            return None
        found += shapes
    return found
