"""How an evaluation ends: with a bounded value or a NodeError."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jinja2 import nodes

from headrace.engine.errors import NodeError
from headrace.engine.language.limits import RESULT_BYTES, EvaluationError, check_value
from headrace.engine.language.lookup import MISSING
from headrace.engine.language.scope import Scope
from headrace.engine.language.values import plain

Root = Callable[[Scope], Any]
"""What an expression or template was compiled to."""

Check = Callable[[str], str]
"""What looks at a rendered text: gives a reason to refuse it, or an empty text."""

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


class Ending(NamedTuple):
    """What is done with an evaluated `value`: nothing where the condition `passes`, in compiled code, holds for it."""

    passes: str
    finish: Callable[[Any], Any]


def value_ending(tree: nodes.Expr) -> Ending:
    """Return how an expression ends: what is missing is None, lists and objects that it makes are not too large."""
    return Ending("False", _bounded_value) if makes_data(tree) else Ending("value is not missing", _value)


def json_ending(tree: nodes.Expr) -> Ending:
    """Return how a lone template ends: as JSON, of a size that is looked at where the template makes it."""
    if makes_data(tree):
        return Ending("False", lambda value: plain(_bounded_value(value)))
    return Ending("kind(value) in scalars", plain)


def text_ending(check: Check | None = None) -> Ending:
    """Return how a text ends: at most 1 MiB, and as `check` wants it."""

    def finish(text: str) -> str:
        # A character takes at most four bytes, so most texts need not be encoded to be measured.
        if len(text) * 4 > RESULT_BYTES and len(text.encode("utf-8", "surrogatepass")) > RESULT_BYTES:
            raise EvaluationError("the result is larger than 1 MiB")
        if check is not None and (reason := check(text)):
            raise EvaluationError(reason)
        return text

    return Ending(f"size(value) <= {RESULT_BYTES // 4}" if check is None else "False", finish)


def _value(value: Any) -> Any:
    return None if value is MISSING else value


def _bounded_value(value: Any) -> Any:
    if isinstance(value, str | list | dict):
        check_value(value)
    return _value(value)
