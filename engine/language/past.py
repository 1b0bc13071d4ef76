"""`events(…)` in conditions: what is counted of a profile's past."""

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cached_property
from hashlib import blake2b
from typing import Any, Final, NoReturn

import msgspec
from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from headrace.engine.errors import ExpressionError
from headrace.engine.language.check import EVENTS, path_of
from headrace.engine.language.lookup import Reader, reader
from headrace.engine.language.registry import BadLiteral
from headrace.engine.language.syntax import parse_expression, refuse
from headrace.engine.language.times import parse_duration

LONGEST_DAYS: Final = 3650
"""The longest window; what is older is asked for without one."""

OWN_TYPES: Final = frozenset(("segment-entered", "segment-left", "goal-achieved"))
"""Types of events that segments and goals make themselves: a `*` does not mean them."""

_KINDS: Final = {"count": "c", "sum": "s", "first": "f", "last": "l", "distinct": "d"}
_OF_PATH: Final = frozenset(("sum", "distinct"))
_TYPE_CHARS: Final = 128
_DAY: Final = 86_400
_WIDTHS: Final = ((3_600, 1), (2 * _DAY, 60), (60 * _DAY, 3_600))
_MEMBERS: Final = ("properties", "context", "page", "device", "utm")
_WRITE: Final = "write .count, .sum('properties.total'), .first, .last or .distinct('properties.sku')"


class Aggregate(msgspec.Struct, frozen=True, dict=True):
    """One thing that is counted of the events of a profile.

    `pattern` is a type, or has `*` in it; `of` is count, sum, first, last or distinct; `path` leads from the event to
    what is summed or told apart, empty for the others; `seconds` is the window, None for all time.
    """

    pattern: str
    of: str
    path: tuple[str, ...] = ()
    seconds: float | None = None

    @cached_property
    def key(self) -> str:
        """Return its name in a profile: the first letter says what is kept, the rest is a hash of all of it."""
        told = msgspec.json.encode((self.pattern, self.of, self.path, self.seconds))
        return _KINDS[self.of] + blake2b(told, digest_size=6).hexdigest()

    @cached_property
    def span(self) -> float:
        """Return the length of the window in seconds; 0 where there is none."""
        return self.seconds or 0.0

    @cached_property
    def width(self) -> int:
        """Return how many seconds a bucket has, by the length of the window; 0 where there is none."""
        if self.seconds is None:
            return 0
        return next((width for below, width in _WIDTHS if self.seconds < below), _DAY)

    @cached_property
    def read(self) -> Reader:
        """Return what reads the value of an event."""
        return reader(self.path)

    @property
    def text(self) -> str:
        """Return it as an author would write it."""
        asked = f"({'.'.join(self.path)!r})" if self.path else ""
        within = "" if self.seconds is None else f", within={_duration(self.seconds)!r}"
        return f"events({self.pattern!r}{within}).{self.of}{asked}"


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds // length:.0f}{unit}"
    return f"{seconds:g}s"


class Lifter(NodeTransformer):
    """Takes every `events(…)` out of a syntax tree and puts a name in its place.

    `found` has what each name stands for. Raises ExpressionError.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self.found: dict[str, Aggregate] = {}

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Node:  # noqa: N802
        """Put a name in the place of `events(…).count`, `first` or `last`."""
        if not _is_events(node.node):
            return self.generic_visit(node)
        if node.attr in _OF_PATH:
            self._refuse(node, f"{node.attr} needs a path", f"write .{node.attr}('properties.total')")
        return self._named(node, node.attr, ())

    def visit_Call(self, node: nodes.Call) -> nodes.Node:  # noqa: N802
        """Put a name in the place of `events(…).sum('…')` or `distinct('…')`."""
        member = node.node
        if isinstance(member, nodes.Getattr) and _is_events(member.node):
            if member.attr in _KINDS and member.attr not in _OF_PATH:
                self._refuse(node, f"{member.attr} is no call", "leave the parentheses out")
            return self._named(member, member.attr, self._path(node, member.attr))
        if _is_events(node):
            self._refuse(node, "what is asked of the events is missing", _WRITE)
        return self.generic_visit(node)

    def _named(self, node: nodes.Getattr, of: str, path: tuple[str, ...]) -> nodes.Node:
        if of not in _KINDS:
            self._refuse(node, f"events(…) has no {of!r}", _fix(of))
        call = node.node
        assert isinstance(call, nodes.Call)  # noqa: S101 - `_is_events` saw to it
        pattern, seconds = self._asked(call)
        aggregate = Aggregate(pattern, of, path, seconds)
        name = f"past_{aggregate.key}"
        self.found[name] = aggregate
        return nodes.Name(name, "load", lineno=node.lineno)

    def _asked(self, call: nodes.Call) -> tuple[str, float | None]:
        """Return the type and the window of a call."""
        given: dict[str, nodes.Node] = {str(pair.key): pair.value for pair in call.kwargs}
        if len(call.args) != 1 or call.dyn_args or call.dyn_kwargs:
            self._refuse(call, "events(…) takes one type", "write events('purchase-order', within='30d')")
        for name in given.keys() - {"within"}:
            self._refuse(call, f"events(…) takes no {name!r}", "it is events('type', within='30d')")
        pattern = self._literal(call.args[0], "the type")
        if not 0 < len(pattern) <= _TYPE_CHARS:
            self._refuse(call, f"a type has 1 to {_TYPE_CHARS} characters")
        if pattern in OWN_TYPES:
            fix = "ask profile.segments, or profile.goals.NAME.count"
            self._refuse(call, f"{pattern!r} is made by segments and goals, and cannot be counted", fix)
        return pattern, self._seconds(call, given["within"]) if "within" in given else None

    def _seconds(self, call: nodes.Call, node: nodes.Node) -> float:
        text = self._literal(node, "within")
        try:
            seconds = parse_duration(text).total_seconds()
        except BadLiteral as error:
            self._refuse(node, f"within: {error}", error.fix)
        if not 1 <= seconds <= LONGEST_DAYS * _DAY:
            self._refuse(call, f"within is from 1s to {LONGEST_DAYS}d", "leave it out for all time")
        return seconds

    def _path(self, call: nodes.Call, of: str) -> tuple[str, ...]:
        if len(call.args) != 1 or call.kwargs or call.dyn_args or call.dyn_kwargs:
            self._refuse(call, f"{of} takes one path", f"write .{of}('properties.total')")
        text = self._literal(call.args[0], f"the path of {of}")
        try:
            path = path_of(parse_expression(f"event.{text}"))[1:]
        except ExpressionError:
            path = ()
        if len(path) < 2 or path[0] not in _MEMBERS:
            fix = f"a path begins with {', '.join(_MEMBERS)}, such as 'properties.total'"
            self._refuse(call, f"{of}: {text[:60]!r} is no path of an event", fix)
        return path

    def _literal(self, node: nodes.Node, what: str) -> str:
        if not isinstance(node, nodes.Const) or not isinstance(node.value, str):
            self._refuse(node, f"{what} must be a text in quotes, known when it is loaded")
        return node.value

    def _refuse(self, node: nodes.Node, message: str, fix: str = "") -> NoReturn:
        refuse(self._text, node.lineno or 0, message, fix)


def _fix(word: str) -> str:
    close = get_close_matches(word, _KINDS, 1)
    return f"did you mean {close[0]!r}?" if close else _WRITE


def _is_events(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name == EVENTS


def lift_events(text: str, tree: nodes.Expr) -> tuple[nodes.Expr, Mapping[str, Aggregate]]:
    """Return a tree with a name in the place of each `events(…)`, and what the names stand for."""
    lifter = Lifter(text)
    lifted: Any = lifter.visit(tree)
    return lifted, lifter.found
