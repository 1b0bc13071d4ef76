"""What segments and goals want to know of events, by type."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from headrace.engine.config.fields import Expression, Value
from headrace.engine.files.goal import Goal
from headrace.engine.files.segment import Condition, Segment
from headrace.engine.language.past import OWN_TYPES, Aggregate
from headrace.engine.language.scope import Scope
from headrace.engine.model import content_hash
from headrace.engine.segments.past import value_of
from headrace.engine.workflow import one_of

_MOST_REMEMBERED = 4096


class Computed(NamedTuple):
    """A segment that is computed. `mark` tells its condition from another."""

    name: str
    when: Condition
    past: tuple[Aggregate, ...]
    keys: frozenset[str]
    mark: str

    def holds(self, scope: Scope, past: Mapping[str, Any], now: float) -> bool | None:
        """Say whether the condition is true; None when it asks for a past that is not known. Raises NodeError.

        `now` is the scope's, in seconds since 1970. `Scope.extra` is the segment's own from then on.
        """
        if self.past:
            if not self.keys <= past.keys():
                return None
            extra = {}
            for name, aggregate in self.when.past.items():
                extra[name] = value_of(past, aggregate, now)
            scope.extra = extra
        return bool(self.when.evaluate(scope))


class Watch(NamedTuple):
    """A goal that events can achieve."""

    name: str
    when: Expression | None
    value: Value[int | float] | None
    matches: Callable[[str], object]
    names: frozenset[str]


class Watched:
    """The computed segments and the goals of a workspace, ready for events.

    `computed` are the names of the segments, which no node may write; `past` are all aggregates that they ask for, and
    `keys` their keys. Time alone may change those that are `timed`. One that is not `is_used` wants nothing.
    """

    def __init__(self, segments: Mapping[str, Segment], goals: Mapping[str, Goal]) -> None:
        self.segments = tuple(
            _computed(name, each.when) for name, each in segments.items() if each.when is not None
        )
        self.is_used = bool(self.segments or any(goal.event for goal in goals.values()))
        self.computed = frozenset(segment.name for segment in self.segments)
        self.past = tuple({each.key: each for one in self.segments for each in one.past}.values())
        self.goals = tuple(
            Watch(name, goal.when, goal.value, one_of(goal.event), frozenset(goal.event))
            for name, goal in goals.items()
            if goal.event
        )
        self.keys = frozenset(each.key for each in self.past)
        self.timed = tuple(each for each in self.lasting() if each.when.is_timed)
        self._patterns = {each.pattern: one_of([each.pattern]) for each in self.past}
        self._known: dict[str, tuple[tuple[Aggregate, ...], tuple[Watch, ...]]] = {}

    def of_type(self, event_type: str) -> tuple[tuple[Aggregate, ...], tuple[Watch, ...]]:
        """Return the aggregates that count an event of a type, and the goals that it may achieve."""
        known = self._known.get(event_type)
        if known is None:
            is_own = event_type in OWN_TYPES
            past = tuple(
                each for each in self.past if not is_own and self._patterns[each.pattern](event_type)
            )
            # A `*` does not mean what segments and goals make of events: it would go on for ever.
            goals = tuple(
                goal
                for goal in self.goals
                if goal.matches(event_type) and (not is_own or event_type in goal.names)
            )
            if len(self._known) >= _MOST_REMEMBERED:
                # Types come from clients: what is remembered of them must be bounded.
                self._known.clear()
            self._known[event_type] = known = past, goals
        return known

    def lasting(self, names: Iterable[str] | None = None) -> tuple[Computed, ...]:
        """Return the segments that can be asked at any time, all or those of some names."""
        wanted = None if names is None else set(names)
        return tuple(
            each for each in self.segments if each.when.is_lasting and (wanted is None or each.name in wanted)
        )


def _computed(name: str, when: Condition) -> Computed:
    past = tuple(when.past.values())
    return Computed(name, when, past, frozenset(each.key for each in past), content_hash(when.source))


NOTHING = Watched({}, {})
"""What a workspace has whose segments have no conditions, and which has no goals."""
