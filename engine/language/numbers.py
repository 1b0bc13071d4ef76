"""Functions for numbers."""

import math
import re
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import Any, Final

from headrace.engine.language.limits import check_items
from headrace.engine.language.lookup import MISSING
from headrace.engine.language.registry import Function, function
from headrace.engine.language.values import (
    COMPARISONS,
    attribute_keys,
    by_path,
    finite,
    is_absent,
    is_number,
    plus,
)

_NUMBER: Final = re.compile(
    r"[+-]?(?:\d{1,18}|\d{0,300}\.\d{1,300}|\d{1,300}\.?)(?:[eE][+-]?\d{1,3})?", re.ASCII
)
_WHOLE: Final = re.compile(r"[+-]?\d{1,300}", re.ASCII)
_WIDE: Final = Context(prec=700)
_less = COMPARISONS["lt"][1]


@function()
def number(value: Any) -> Any:
    """Read a text as a number; a number stays as it is, and anything else is missing.

    >>> number(' 12.50 ')
    12.5
    """
    if is_number(value):
        return value
    if not isinstance(value, str) or len(value) > 700:
        return MISSING
    digits = value.strip()
    if _WHOLE.fullmatch(digits):
        return int(digits)
    if not _NUMBER.fullmatch(digits):
        return MISSING
    read = float(digits)
    return read if math.isfinite(read) else MISSING


def _to_whole(value: Any, convert: Callable[[float], int]) -> Any:
    if type(value) is float and math.isfinite(value):
        return convert(value)
    return finite(value) if type(value) is int else MISSING


@function()
def int_(value: Any) -> Any:
    """Give the whole part of a number, or of a text that is one.

    >>> int('12.9')
    12
    """
    return _to_whole(number.call(value), int)


@function()
def floor(value: Any) -> Any:
    """Round a number down to a whole one.

    >>> floor(-1.5)
    -2
    """
    return _to_whole(value, math.floor)


@function()
def ceil(value: Any) -> Any:
    """Round a number up to a whole one.

    >>> ceil(1.2)
    2
    """
    return _to_whole(value, math.ceil)


@function()
def round_(value: Any, digits: Any = 0) -> Any:
    """Round a number to digits after the point, halves away from zero; without digits to a whole number.

    >>> 2.675 | round(2)
    2.68
    """
    if not is_number(value) or type(digits) is not int or not 0 <= digits <= 20:
        return MISSING
    if type(value) is int:
        return finite(value)
    if not math.isfinite(value):
        return MISSING
    try:
        exact = Decimal(str(value)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP, _WIDE)
    except InvalidOperation:
        return MISSING
    return float(exact) if digits else int(exact)


@function()
def abs_(value: Any) -> Any:
    """Give a number without its sign.

    >>> abs(-3)
    3
    """
    return finite(abs(value)) if is_number(value) else MISSING


def _items(scope: Any, values: tuple[Any, ...], attribute: Any) -> list[Any] | None:
    items = values[0] if len(values) == 1 else list(values)
    if not isinstance(items, list):
        return None
    check_items(len(items))
    if isinstance(attribute, str):
        keys = attribute_keys(scope, items, attribute)
        items = [by_path(item, keys) for item in items]
    return [item for item in items if not is_absent(item)]


@function()
def sum_(scope: Any, list: Any, attribute: Any = None) -> Any:  # noqa: A002 - authors read this name
    """Add up the numbers of a list, or of one member of its items; null and missing are left out.

    >>> event.properties.items | sum('price')
    42.5
    """
    numbers = _items(scope, (list,), attribute)
    if numbers is None:
        return MISSING
    total: Any = 0
    for each in numbers:
        total = plus(total, each)
    return total


@function()
def average(scope: Any, list: Any, attribute: Any = None) -> Any:  # noqa: A002
    """Give the mean of the numbers of a list, or of one member of its items; null and missing are left out.

    >>> average([1, 2, 6])
    3.0
    """
    numbers = _items(scope, (list,), attribute)
    total: Any = MISSING if not numbers else sum_.call(scope, numbers)
    try:
        return MISSING if not numbers or total is MISSING else finite(total / len(numbers))
    except OverflowError:
        return MISSING


def _best(scope: Any, values: tuple[Any, ...], attribute: Any, better: Callable[[Any, Any], bool]) -> Any:
    items = _items(scope, values, attribute)
    if not items:
        return MISSING
    best = items[0]
    for item in items[1:]:
        if not (
            _less(scope, item, best)
            or _less(scope, best, item)
            or type(item) is type(best)
            or is_number(item)
        ):
            return MISSING
        if better(item, best):
            best = item
    return best


@function()
def min_(scope: Any, *values: Any, attribute: Any = None) -> Any:
    """Give the smallest of several values, or of a list; null and missing are left out.

    >>> min(event.properties.total, 100)
    42.5
    """
    return _best(scope, values, attribute, lambda item, best: _less(scope, item, best))


@function()
def max_(scope: Any, *values: Any, attribute: Any = None) -> Any:
    """Give the largest of several values, or of a list; null and missing are left out.

    >>> event.properties.items | max(attribute='price')
    30
    """
    return _best(scope, values, attribute, lambda item, best: _less(scope, best, item))


FUNCTIONS: Final[tuple[Function, ...]] = (
    number,
    int_,
    floor,
    ceil,
    round_,
    abs_,
    sum_,
    average,
    min_,
    max_,
)
