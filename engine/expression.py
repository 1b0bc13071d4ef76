"""Expressions: a condition or value that an author writes, compiled once."""

from collections.abc import Collection
from typing import Any

from jinja2 import nodes

from headrace.engine.errors import NodeError
from headrace.engine.language.check import Checker
from headrace.engine.language.code import Root, build
from headrace.engine.language.limits import EvaluationError, check_value
from headrace.engine.language.lookup import MISSING, Missing
from headrace.engine.language.syntax import parse_expression, place
from headrace.engine.scope import NAMES, Scope

__all__ = ["FAILURES", "MISSING", "NAMES", "Expression", "Missing", "Scope", "compile_expression", "failed"]

FAILURES = (
    EvaluationError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What the evaluation of compiled code may raise: limits first of all, and what a hostile value may provoke."""

_SHOWN_CHARS = 80


def failed(text: str, error: BaseException) -> NodeError:
    """Return the NodeError that says which expression or template failed, and why."""
    shown = text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"
    reason = "it nests too deeply" if isinstance(error, RecursionError) else str(error)
    return NodeError(f"`{shown}` failed: {reason}")


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
    return Expression(text, _bounded(root) if makes_data(tree) else root, checker)


def makes_data(tree: nodes.Expr) -> bool:
    """Say whether an expression makes lists or objects of its own, whose size must be looked at."""
    made = (nodes.List, nodes.Tuple, nodes.Dict, nodes.Call, nodes.Filter, nodes.Add)
    return isinstance(tree, made) or any(tree.find_all(made))


def _bounded(root: Root) -> Root:
    def run(scope: Scope) -> Any:
        value = root(scope)
        if isinstance(value, str | list | dict):
            check_value(value)
        return value

    return run
