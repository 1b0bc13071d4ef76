"""Expressions: a condition or value that an author writes, compiled once."""

from collections.abc import Collection
from typing import Any

from jinja2 import nodes

from headrace.engine.language.check import Checker
from headrace.engine.language.code import Root, build
from headrace.engine.language.lookup import MISSING, Missing
from headrace.engine.language.outcome import FAILURES, bounded, failed, makes_data
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

    `text` is what the author wrote. `reads` are the paths that it reads, such as ("profile", "traits", "email"), and
    `places` the line and column of the first use of each.
    """

    __slots__ = ("_root", "places", "reads", "text")

    def __init__(self, text: str, root: Root, checker: Checker) -> None:
        self.text = text
        self._root = root
        self.places = {path: place(text, offset) for path, offset in checker.reads.items()}
        self.reads = frozenset(self.places)

    def evaluate(self, scope: Scope) -> Any:
        """Return the value: JSON or a time; what is missing is None. Raises NodeError."""
        try:
            value = self._root(scope)
        except FAILURES as error:
            raise failed(self.text, error) from error
        return None if value is MISSING else value

    def test(self, scope: Scope) -> bool:
        """Say whether the value is true: not false, null, missing, 0 or empty. Raises NodeError."""
        try:
            return bool(self._root(scope))
        except FAILURES as error:
            raise failed(self.text, error) from error

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
    root = build(template, checker, lone=True)
    return Expression(text, bounded(root) if makes_data(tree) else root, checker)
