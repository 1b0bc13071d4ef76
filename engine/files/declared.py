"""Read what a workspace declares: sources, event types, segments and goals."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from headrace.engine.config.fields import Names
from headrace.engine.files.check_event_type import check_event_types
from headrace.engine.files.check_model import check_model
from headrace.engine.files.check_segment import check_goals, check_segments
from headrace.engine.files.event_type import EventType, EventTypesFile
from headrace.engine.files.goal import Goal, GoalsFile
from headrace.engine.files.json_file import JsonFile, read_json_file
from headrace.engine.files.problem import Problem, has_errors
from headrace.engine.files.segment import Segment, SegmentsFile
from headrace.engine.files.source import Secrets, Source, SourcesFile, check_sources, compile_source
from headrace.engine.language.past import OWN_TYPES

M = TypeVar("M", bound=BaseModel)
E = TypeVar("E")

SOURCES, EVENT_TYPES, SEGMENTS, GOALS = "sources.json", "event_types.json", "segments.json", "goals.json"
FILES = (SOURCES, EVENT_TYPES, SEGMENTS, GOALS)


@dataclass(frozen=True, slots=True)
class Declared:
    """What the four files declare; None where a file cannot be used."""

    sources: Mapping[str, Source] | None
    event_types: Mapping[str, EventType] | None
    segments: Mapping[str, Segment] | None
    goals: Mapping[str, Goal] | None
    texts: Mapping[str, bytes]
    problems: tuple[Problem, ...]
    missing: frozenset[str] = frozenset()
    merge_rules: Mapping[str, str] = field(default_factory=dict)
    """How fields become one when profiles are merged: strategies by path, from event_types.json."""

    def or_else(self, last: "Declared | None") -> "Declared":
        """Return this with what cannot be used taken from the last good one."""
        if last is None:
            return self
        return Declared(
            last.sources if self.sources is None else self.sources,
            last.event_types if self.event_types is None else self.event_types,
            last.segments if self.segments is None else self.segments,
            last.goals if self.goals is None else self.goals,
            self.texts,
            self.problems,
            self.missing,
            last.merge_rules if self.event_types is None else self.merge_rules,
        )

    @property
    def names(self) -> Names:
        """The names that nodes may use; a file that cannot be used allows all."""
        return Names(
            segments=None if self.segments is None else frozenset(self.segments),
            computed=frozenset(name for name, each in (self.segments or {}).items() if each.when is not None),
            event_types=frozenset((*self.event_types, *OWN_TYPES)) if self.event_types else None,
            sources=None if self.sources is None else frozenset(self.sources),
            kinds=frozenset(kind for each in (self.event_types or {}).values() for kind in each.identify),
        )


def read_declared(folder: Path, secrets: Secrets) -> Declared:
    """Read the four files; whatever is wrong is in `problems`."""
    files = {file: read_json_file(folder, file) for file in FILES}
    sources, in_sources = _read_sources(files[SOURCES], secrets)
    types, merge_rules, in_types = _read_event_types(files[EVENT_TYPES], _segment_names(files[SEGMENTS]))
    segments, in_segments = _read_conditions(
        SegmentsFile, files[SEGMENTS], lambda file: file.segments, check_segments, types or {}
    )
    goals, in_goals = _read_conditions(
        GoalsFile, files[GOALS], lambda file: file.goals, partial(check_goals, segments=segments), types or {}
    )
    return Declared(
        sources,
        types,
        segments,
        goals,
        {name: file.data for name, file in files.items()},
        (*in_sources, *in_types, *in_segments, *in_goals),
        frozenset(name for name, file in files.items() if file.is_missing),
        merge_rules,
    )


def _read_conditions(
    model: type[M],
    file: JsonFile,
    entries_of: Callable[[M], Mapping[str, E]],
    check: Callable[[Mapping[str, E], JsonFile, Mapping[str, EventType]], Iterator[Problem]],
    types: Mapping[str, EventType],
) -> tuple[Mapping[str, E] | None, list[Problem]]:
    """Read a file of things with conditions, by name."""
    read, problems = _read_model(model, file)
    if read is None:
        return _nothing(file), problems
    entries = entries_of(read)
    problems += check(entries, file, types)
    return None if has_errors(problems) else entries, problems


def _nothing(file: JsonFile) -> dict[str, Any] | None:
    """An optional file that is not there declares nothing; one that is broken is not known."""
    return {} if file.is_missing else None


def _read_model(model: type[M], file: JsonFile) -> tuple[M | None, list[Problem]]:
    if file.is_missing:
        return None, []
    if file.value is None:
        return None, list(file.problems)
    return check_model(model, file.value, file)


def _read_sources(file: JsonFile, secrets: Secrets) -> tuple[dict[str, Source] | None, list[Problem]]:
    if file.is_missing:
        fix = "Is this the folder of a workspace? `headrace init DIR` writes one."
        return None, [Problem(file.file, "", "F01", "is not there", fix)]
    model, problems = _read_model(SourcesFile, file)
    if model is None:
        return None, problems
    problems += check_sources(model.sources, file, secrets)
    if has_errors(problems):
        return None, problems
    return {name: compile_source(name, entry, secrets) for name, entry in model.sources.items()}, problems


def _segment_names(file: JsonFile) -> list[str] | None:
    """Return the names that stand in segments.json, whether their conditions can be used or not; None: unknown."""
    entries = file.value.get("segments") if isinstance(file.value, dict) else None
    return list(entries) if isinstance(entries, dict) else None


def _read_event_types(
    file: JsonFile, segments: list[str] | None
) -> tuple[dict[str, EventType] | None, dict[str, str], list[Problem]]:
    """Return the types, how profiles are merged, and the problems."""
    model, problems = _read_model(EventTypesFile, file)
    if model is None:
        return _nothing(file), {}, problems
    problems += check_event_types(model, file, segments)
    if has_errors(problems):
        return None, {}, problems
    types = {name: EventType(name, entry) for name, entry in model.event_types.items()}
    return types, {where.path.text: strategy for where, strategy in model.merge.items()}, problems
