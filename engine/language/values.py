"""What operators and tests mean: comparing, computing and showing values."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import repeat
from operator import add as _add
from operator import floordiv, ge, gt, le, lt, mod, mul, sub, truediv
from typing import Any, Final

import msgspec

from headrace.engine.language.limits import (
    INTEGER_BITS,
    EvaluationError,
    Work,
    check_items,
    check_size,
    check_value,
)
from headrace.engine.language.lookup import MISSING, get_item

_NUMBERS: Final = frozenset({int, float})
_CONTAINERS: Final = frozenset({list, dict})
_FEW: Final = 64
_SHORT: Final = 1_024
_KEYS: Final = 64
_ORDERED: Final = frozenset({int, float, str, datetime})
_encode = msgspec.json.Encoder(enc_hook=str).encode

Operator = Callable[[Any, Any], Any]
Comparison = Callable[[Work, Any, Any], bool]


def is_number(value: Any) -> bool:
    """Say whether a value is a number; true and false are not."""
    return type(value) in _NUMBERS


def is_absent(value: Any) -> bool:
    """Say whether a value is missing or null: the meaning of `== none`."""
    return value is MISSING or value is None


def same(left: Any, right: Any, work: Work | None = None) -> bool:
    """Say whether two JSON values are the same; true is not 1, and within lists and objects null is null.

    Values within lists and objects are counted as work, if it is given.
    """
    if left is right:
        return True
    kind = type(left)
    if kind is not type(right):
        return kind in _NUMBERS and type(right) in _NUMBERS and left == right
    if kind is list or kind is dict:
        if len(left) != len(right):
            return False
        if work is not None:
            work.spend(4 * len(left))
        if kind is list:
            return all(map(same, left, right, repeat(work)))
        return left.keys() == right.keys() and all(
            same(value, right[key], work) for key, value in left.items()
        )
    return bool(left == right)


def equal(work: Work, left: Any, right: Any) -> bool:
    """`==`: false for missing, null and unlike kinds."""
    kind = type(left)
    if kind is not type(right):
        return kind in _NUMBERS and type(right) in _NUMBERS and left == right
    if kind in _CONTAINERS:
        return same(left, right, work)
    return left is not None and left is not MISSING and left == right


def unequal(work: Work, left: Any, right: Any) -> bool:
    """`!=`: false for missing, null and unlike kinds too."""
    kind = type(left)
    if kind is not type(right):
        return kind in _NUMBERS and type(right) in _NUMBERS and left != right
    if kind in _CONTAINERS:
        return not same(left, right, work)
    return left is not None and left is not MISSING and left != right


def _ordering(compare: Operator) -> Comparison:
    def ordered(_: Work, left: Any, right: Any) -> bool:
        kind = type(left)
        if kind is type(right):
            return kind in _ORDERED and compare(left, right)
        return kind in _NUMBERS and type(right) in _NUMBERS and compare(left, right)

    return ordered


def contains(work: Work, container: Any, item: Any) -> bool | None:
    """Say whether a list has an item, an object a key, a text a part; None when that cannot be asked."""
    if is_absent(item):
        return None
    if isinstance(container, list):
        if len(container) > _FEW:
            check_items(len(container))
            work.spend(4 * len(container))
        if type(item) is str:
            return item in container
        if type(item) not in _CONTAINERS and item not in container:
            return False
        return any(map(same, container, repeat(item), repeat(work)))
    if isinstance(container, str) and isinstance(item, str):
        if len(container) > _SHORT:
            work.spend(len(container) >> 4)
        return item in container
    if isinstance(container, dict):
        return item in container if isinstance(item, str) else None
    return None


def within(work: Work, item: Any, container: Any) -> bool:
    """`in`."""
    if type(item) is str and type(container) is list and len(container) <= _FEW:
        return item in container
    return contains(work, container, item) is True


def without(work: Work, item: Any, container: Any) -> bool:
    """`not in`: false when the item or the container is missing, null or of a kind that holds nothing."""
    return contains(work, container, item) is False


COMPARISONS: Final[dict[str, tuple[str, Comparison]]] = {
    "eq": ("equal", equal),
    "ne": ("unequal", unequal),
    "lt": ("less", _ordering(lt)),
    "lteq": ("less_or_equal", _ordering(le)),
    "gt": ("more", _ordering(gt)),
    "gteq": ("more_or_equal", _ordering(ge)),
    "in": ("within", within),
    "notin": ("without", without),
}
"""Jinja's name of a comparison: the name of its function in compiled code, and the function, which counts its work."""


def finite(value: Any) -> Any:
    """Return a number that was computed, or missing when it is too large or none."""
    if type(value) is float:
        return value if math.isfinite(value) else MISSING
    return value if value.bit_length() <= INTEGER_BITS else MISSING


def _computing(compute: Operator) -> Operator:
    def computed(left: Any, right: Any) -> Any:
        if type(left) in _NUMBERS and type(right) in _NUMBERS:
            try:
                return finite(compute(left, right))
            except ArithmeticError:
                return MISSING
        return MISSING

    return computed


def _shifted(time: datetime, seconds: float) -> Any:
    try:
        return time + timedelta(seconds=seconds)
    except OverflowError:
        return MISSING


_plus = _computing(_add)
_minus = _computing(sub)


def plus(left: Any, right: Any) -> Any:
    """`+`: numbers, two texts, two lists, or a time and seconds; anything else is missing."""
    if isinstance(left, str) and isinstance(right, str):
        check_size(len(left) + len(right))
        return left + right
    if isinstance(left, list) and isinstance(right, list):
        check_items(len(left) + len(right))
        return left + right
    if isinstance(left, datetime) and is_number(right):
        return _shifted(left, right)
    return _plus(left, right)


def minus(left: Any, right: Any) -> Any:
    """`-`: numbers, two times (gives seconds), or a time and seconds; anything else is missing."""
    if isinstance(left, datetime):
        if isinstance(right, datetime):
            return (left - right).total_seconds()
        return _shifted(left, -right) if is_number(right) else MISSING
    return _minus(left, right)


def negative(value: Any) -> Any:
    """`-x` of a number; anything else is missing."""
    return finite(-value) if is_number(value) else MISSING


def positive(value: Any) -> Any:
    """`+x` of a number; anything else is missing."""
    return value if is_number(value) else MISSING


ARITHMETIC: Final[dict[str, tuple[str, Operator]]] = {
    "Add": ("plus", plus),
    "Sub": ("minus", minus),
    "Mul": ("times", _computing(mul)),
    "Div": ("over", _computing(truediv)),
    "FloorDiv": ("whole_over", _computing(floordiv)),
    "Mod": ("rest", _computing(mod)),
}
"""The name of an operator's node in Jinja's syntax tree: its name in compiled code, and the function."""


def iso_text(time: datetime) -> str:
    """Write a time as all documents keep it: UTC, ISO 8601, milliseconds and `Z`."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")[:23] + "Z"


def to_text(value: Any) -> str:
    """Show a value in a text: missing and null as nothing, true as `true`, times as ISO 8601, the rest as JSON."""
    kind = type(value)
    if kind is str or kind is float or kind is int:
        return str(value)
    if value is MISSING or value is None:
        return ""
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, datetime):
        return iso_text(value)
    if isinstance(value, str | int | float):
        return str(value)
    return json_text(value)


def json_text(value: Any) -> str:
    """Write a value as JSON, at most 1 MiB of it; missing and a text that is not Unicode give null and `?`."""
    value = plain(value)
    check_value(value)
    try:
        return _encode(value).decode()
    except UnicodeEncodeError:
        return _encode(_printable(value)).decode()


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_printable(item) for item in value]
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return value


def plain(value: Any) -> Any:
    """Turn what an expression gives into JSON: missing into null, times into ISO 8601, also within what it made."""
    if value is MISSING:
        return None
    if isinstance(value, datetime):
        return iso_text(value)
    return value


def concatenate(*values: Any) -> str:
    """`~`: the texts of the values in a row, at most 1 MiB."""
    texts = [to_text(value) for value in values]
    check_size(sum(map(len, texts)))
    return "".join(texts)


def part(value: Any, start: Any, stop: Any, step: Any) -> Any:
    """`value[start:stop:step]` of a text or list; anything else is missing."""
    bounds = [None if is_absent(bound) else bound for bound in (start, stop, step)]
    if not isinstance(value, str | list) or bounds[2] == 0:
        return MISSING
    if not all(bound is None or type(bound) is int for bound in bounds):
        return MISSING
    return value[slice(*bounds)]


def new_object(*pairs: tuple[Any, Any]) -> dict[str, Any]:
    """`{key: value}`; a key that is not a text becomes one, a missing value becomes null."""
    return {to_text(key): plain(value) for key, value in pairs}


def new_list(*items: Any) -> list[Any]:
    """`[a, b]`; items that are missing become null."""
    return [plain(item) for item in items]


TESTS: Final[dict[str, tuple[str, Callable[..., bool]]]] = {
    "defined": ("It is there (null too).", lambda value: value is not MISSING),
    "undefined": ("It is missing.", lambda value: value is MISSING),
    "none": ("It is null or missing.", is_absent),
    "empty": (
        "It is missing, null, or an empty text, list or object.",
        lambda value: is_absent(value) or (isinstance(value, str | list | dict) and not value),
    ),
    "text": ("It is a text.", lambda value: isinstance(value, str)),
    "string": ("It is a text.", lambda value: isinstance(value, str)),
    "number": ("It is a number.", is_number),
    "integer": ("It is a whole number.", lambda value: type(value) is int),
    "boolean": ("It is true or false.", lambda value: isinstance(value, bool)),
    "true": ("It is true itself.", lambda value: value is True),
    "false": ("It is false itself.", lambda value: value is False),
    "list": ("It is a list.", lambda value: isinstance(value, list)),
    "object": ("It is an object.", lambda value: isinstance(value, dict)),
    "time": ("It is a time.", lambda value: isinstance(value, datetime)),
    "even": ("It is an even whole number.", lambda value: type(value) is int and value % 2 == 0),
    "odd": ("It is an odd whole number.", lambda value: type(value) is int and value % 2 == 1),
    "in": ("A list, object or text has it.", within),
}
"""The name of a test after `is`: what it says, and the function."""


def by_path(value: Any, keys: tuple[str, ...]) -> Any:
    """Follow keys, or places written as digits, from a value."""
    for key in keys:
        value = get_item(value, int(key) if isinstance(value, list) and key.isdecimal() else key)
        if value is MISSING:
            break
    return value


def attribute_keys(work: Work, items: list[Any], attribute: Any) -> tuple[str, ...]:
    """Return the keys of a member of each item, which an author writes with dots; none when it is no text."""
    if not isinstance(attribute, str):
        return ()
    if attribute.count(".") >= _KEYS:
        raise EvaluationError(f"a member more than {_KEYS} keys deep")
    keys = tuple(attribute.split("."))
    work.spend(len(items) * len(keys))
    return keys
