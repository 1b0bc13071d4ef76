"""What compiled expressions call while they run."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from jinja2.runtime import LoopContext

from headrace.engine.language.library import FUNCTIONS
from headrace.engine.language.limits import LOOP_ROUNDS, EvaluationError
from headrace.engine.language.lookup import MISSING, as_time, get_item
from headrace.engine.language.scope import Scope
from headrace.engine.language.values import (
    ARITHMETIC,
    COMPARISONS,
    TESTS,
    concatenate,
    is_absent,
    negative,
    new_list,
    new_object,
    part,
    positive,
    to_text,
)
from headrace.engine.view import SCALARS

Show = Callable[[Scope, Any], str]


def made(scope: Scope, value: Any) -> Any:
    """Count a text or list that an evaluation made, and return it."""
    if isinstance(value, str):
        scope.spend(len(value))
    elif isinstance(value, list):
        scope.spend(8 * len(value))
    return value


def counted(scope: Scope, call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Call a function within a loop: what it reads counts too, since it is read in every round."""
    for argument in arguments:
        if isinstance(argument, list | dict):
            scope.spend(4 * len(argument))
        elif isinstance(argument, str):
            scope.spend(len(argument) >> 4)
    return made(scope, call(*arguments, **keywords))


def show(scope: Scope, value: Any) -> str:
    """Write a value into a text."""
    text = to_text(value)
    scope.spend(len(text))
    return text


def rounds(scope: Scope, width: int, value: Any) -> Sequence[Any]:
    """Return what a loop goes through: a list, or the keys of an object; nothing for anything else.

    `width` is how many names the loop sets each round; a shorter item leaves the rest missing.
    """
    items: list[Any] = value if isinstance(value, list) else list(value) if isinstance(value, dict) else []
    scope.rounds += len(items)
    if scope.rounds > LOOP_ROUNDS:
        raise EvaluationError(f"its loops take more than {LOOP_ROUNDS:,} rounds")
    if width == 1:
        return items
    return [
        (item[:width] + [MISSING] * width)[:width] if isinstance(item, list) else [MISSING] * width
        for item in items
    ]


RUNTIME: Final[dict[str, Any]] = {
    "__builtins__": {},
    "missing": MISSING,
    "undefined": None,
    "nothing": {},
    "absent": (AttributeError, KeyError, TypeError),
    "kind": type,
    "size": len,
    "Text": str,
    "Float": float,
    "numbers": frozenset({int, float}),
    "scalars": SCALARS,
    "LoopContext": LoopContext,
    "as_time": as_time,
    "get_item": get_item,
    "part": part,
    "new_list": new_list,
    "new_object": new_object,
    "concatenate": concatenate,
    "is_absent": is_absent,
    "negative": negative,
    "positive": positive,
    "made": made,
    "counted": counted,
    "rounds": rounds,
    "join": "".join,
    **dict(COMPARISONS.values()),
    **dict(ARITHMETIC.values()),
    **{f"test_{name}": test for name, (_, test) in TESTS.items() if name != "in"},
    **{f"call_{name}": function.call for name, function in FUNCTIONS.items()},
}
"""The names that compiled code knows; there is nothing else, no Python built-in either."""
