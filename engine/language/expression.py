"""Expressions: a condition or value that an author writes, compiled once."""

from collections.abc import Collection, Mapping

from jinja2 import nodes

from headrace.engine.language.check import Checker
from headrace.engine.language.code import build
from headrace.engine.language.lookup import MISSING, Missing
from headrace.engine.language.outcome import Root, value_ending
from headrace.engine.language.past import Aggregate, lift_events
from headrace.engine.language.scope import NAMES, Scope
from headrace.engine.language.syntax import parse_expression, place
from headrace.engine.language.template import (
    Template,
    compile_header_template,
    compile_template,
    compile_url_template,
)

__all__ = [
    "MISSING",
    "NAMES",
    "Expression",
    "Missing",
    "Scope",
    "Template",
    "compile_expression",
    "compile_header_template",
    "compile_template",
    "compile_url_template",
]


class Expression:
    """A compiled expression.

    `text` is what the author wrote. `evaluate` takes a scope and gives the value: JSON or a time; what is missing is
    None; it raises NodeError. `reads` are the paths that it reads, such as ("profile", "traits", "email"), and
    `places` the line and column of the first use of each. `past` are the aggregates whose values it takes from
    `Scope.extra`, by the names there; `is_timed` says that its value may change with the time alone.
    """

    __slots__ = ("evaluate", "is_timed", "past", "places", "reads", "text")

    def __init__(self, text: str, root: Root, checker: Checker, past: Mapping[str, Aggregate]) -> None:
        self.text = text
        self.evaluate = root
        self.places = {path: place(text, offset) for path, offset in checker.reads.items()}
        self.reads = frozenset(self.places)
        self.past = past
        has_windows = any(aggregate.seconds is not None for aggregate in past.values())
        self.is_timed = has_windows or checker.asks_now or ("now",) in self.reads

    def test(self, scope: Scope) -> bool:
        """Say whether the value is true: not false, null, missing, 0 or empty. Raises NodeError."""
        return bool(self.evaluate(scope))

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


def compile_expression(text: str, *, extra_names: Collection[str] = (), has_past: bool = False) -> Expression:
    """Compile an expression; `extra_names` are known besides `NAMES` and found in `Scope.extra`.

    With `has_past` it may ask for `events(…)`. Raises ExpressionError with line, column and, if there is one, the fix.
    """
    tree = parse_expression(text)
    past: Mapping[str, Aggregate] = {}
    if has_past:
        tree, past = lift_events(text, tree)
    checker = Checker(text, (*extra_names, *past))
    checker.check(tree, checker.names)
    template = nodes.Template([nodes.Output([tree], lineno=1)], lineno=1)
    return Expression(text, build(template, checker, value_ending(tree), lone=True), checker, past)
