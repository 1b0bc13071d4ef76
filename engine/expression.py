"""Expressions: a condition or value that an author writes, compiled once."""

from collections.abc import Collection

from jinja2 import nodes

from headrace.engine.language.check import Checker
from headrace.engine.language.code import build
from headrace.engine.language.lookup import MISSING, Missing
from headrace.engine.language.outcome import Root, value_ending
from headrace.engine.language.scope import NAMES, Scope
from headrace.engine.language.syntax import parse_expression, place
from headrace.engine.template import (
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
    `places` the line and column of the first use of each.
    """

    __slots__ = ("evaluate", "places", "reads", "text")

    def __init__(self, text: str, root: Root, checker: Checker) -> None:
        self.text = text
        self.evaluate = root
        self.places = {path: place(text, offset) for path, offset in checker.reads.items()}
        self.reads = frozenset(self.places)

    def test(self, scope: Scope) -> bool:
        """Say whether the value is true: not false, null, missing, 0 or empty. Raises NodeError."""
        return bool(self.evaluate(scope))

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


def compile_expression(text: str, *, extra_names: Collection[str] = ()) -> Expression:
    """Compile an expression; `extra_names` are known besides `NAMES` and found in `Scope.extra`.

    Raises ExpressionError with line, column and, where there is one, the fix.
    """
    tree = parse_expression(text)
    checker = Checker(text, extra_names)
    checker.check(tree, checker.names)
    template = nodes.Template([nodes.Output([tree], lineno=1)], lineno=1)
    return Expression(text, build(template, checker, value_ending(tree), lone=True), checker)
