"""How an evaluation ends: with a bounded value or a NodeError."""

from typing import Any

from jinja2 import nodes

from headrace.engine.errors import NodeError
from headrace.engine.language.code import Root
from headrace.engine.language.limits import EvaluationError, check_value
from headrace.engine.language.scope import Scope

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


def makes_data(tree: nodes.Expr) -> bool:
    """Say whether an expression makes lists or objects of its own, whose size must be looked at."""
    made = (nodes.List, nodes.Tuple, nodes.Dict, nodes.Call, nodes.Filter, nodes.Add)
    return isinstance(tree, made) or any(tree.find_all(made))


def bounded(root: Root) -> Root:
    """Return a function that does the same and raises EvaluationError for a value that is too large."""

    def run(scope: Scope) -> Any:
        value = root(scope)
        if isinstance(value, str | list | dict):
            check_value(value)
        return value

    return run
