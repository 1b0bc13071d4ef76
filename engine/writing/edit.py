"""Changes of documents, one member at a time, that can be undone."""

import math
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec

from headrace.engine.errors import PathError
from headrace.engine.language.lookup import MISSING
from headrace.engine.language.values import iso_text, same
from headrace.engine.view import plain

VALUE_DEPTH: Final = 64
"""Deepest nesting of a value that may be written."""
VALUE_SIZE: Final = 1 << 20
"""Largest value that may be written: characters of its texts, and two for each item."""
LIST_ITEMS: Final = 10_000
"""Longest list that add and append may make."""
INTEGER_BITS: Final = 64
"""Largest integer that may be written."""


Operation = Callable[[Any, Any], Any]


class Edit(msgspec.Struct, frozen=True, gc=False):
    """One change of one member of a document; `MISSING` stands for what was, or is, not there.

    `before` and `after` stay true whatever is written later. `made` names the topmost object that had to be made on
    the way to the member: the object that holds it, its key, and what was there (MISSING or null).
    """

    container: dict[str, Any]
    key: str
    before: Any
    after: Any
    path: str
    made: tuple[dict[str, Any], str, Any] | None = None


def undo(edit: Edit) -> None:
    """Take an edit back. Several must be taken back newest first."""
    container, key, before = edit.made or (edit.container, edit.key, edit.before)
    if before is MISSING:
        container.pop(key, None)
    else:
        container[key] = before


def turn_back(edit: Edit) -> list[Edit]:
    """Write what stood at a place before an edit, also when others came since; returns what was done, as edits.

    Several must be turned back newest first. An object that had to be made goes too, once nothing is in it.
    """
    done = [_restore(edit.container, edit.key, edit.before, edit.path)]
    if edit.made is not None:
        container, key, before = edit.made
        if _is_bare(container.get(key)):
            done.append(_restore(container, key, before, edit.path))
    return done


def _restore(container: dict[str, Any], key: str, before: Any, path: str) -> Edit:
    edit = Edit(container, key, container.get(key, MISSING), before, path)
    if before is MISSING:
        container.pop(key, None)
    else:
        container[key] = before
    return edit


def _is_bare(value: Any) -> bool:
    """Say whether an object holds nothing but such objects."""
    return isinstance(value, dict) and all(map(_is_bare, value.values()))


def json_copy(value: Any) -> Any:
    """Return a copy of a JSON value, or of one behind a view, that shares nothing with it; a time becomes its text.

    Raises PathError for what JSON cannot say, and for what is too deep or too large.
    """
    kind = type(value)
    if kind is str and len(value) < VALUE_SIZE and value.isascii():
        return value
    if kind is int or kind is float:
        # Most numbers are small, and need no other look.
        return value if -1e9 < value < 1e9 else check_number(value)
    left = [VALUE_SIZE]
    return _copy(plain(value), 0, left)


def _copy(value: Any, depth: int, left: list[int]) -> Any:
    kind = type(value)
    if kind in (dict, list):
        if depth >= VALUE_DEPTH:
            raise PathError(f"the value nests more than {VALUE_DEPTH} deep")
        _take(left, 2 * len(value) + 2)
        if kind is list:
            return [_copy(item, depth + 1, left) for item in value]
        return _copy_object(value, depth + 1, left)
    if kind is str:
        return _copy_text(value, left)
    if value is None or kind is bool:
        return value
    if kind in (int, float):
        return check_number(value)
    if isinstance(value, datetime):
        return iso_text(value)
    raise PathError(f"{_kind(value)} cannot be written: it is not JSON")


def _copy_object(value: dict[Any, Any], depth: int, left: list[int]) -> dict[str, Any]:
    """Return a copy of an object; of plain texts, which are most of what is in one, only the size is looked at."""
    made: dict[str, Any] = {}
    size = 0
    for key, item in value.items():
        if type(key) is str and key.isascii():
            size += len(key)
        else:
            _copy_key(key, left)
        if type(item) is str and item.isascii():
            size += len(item)
            made[key] = item
        else:
            made[key] = item if item is None else _copy(item, depth, left)
    _take(left, size)
    return made


def _take(left: list[int], size: int) -> None:
    left[0] -= size
    if left[0] < 0:
        raise PathError("the value is larger than 1 MiB")


def _copy_text(text: str, left: list[int]) -> str:
    _take(left, len(text))
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise PathError("the text holds half a character (a lone surrogate)") from None
    return text


def _copy_key(key: Any, left: list[int]) -> str:
    if type(key) is not str:
        raise PathError(f"the key {key!r} of an object is not a text")
    return _copy_text(key, left)


def check_number(value: Any) -> Any:
    """Return a number that can be kept. Raises PathError for one that is not finite or has more than 64 bits."""
    if type(value) is int:
        if value.bit_length() >= INTEGER_BITS:
            raise PathError(f"the number has more than {INTEGER_BITS} bits")
    elif not math.isfinite(value):
        raise PathError(f"{value} is not a number that can be kept")
    return value


def sum_of(one: Any, other: Any) -> Any:
    """Return the sum of two numbers. Raises PathError when it cannot be kept."""
    try:
        return check_number(one + other)
    except OverflowError:
        raise PathError(f"the number has more than {INTEGER_BITS} bits") from None


NUMBERS: Final = frozenset({int, float})

_KINDS: Final = {
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "an object",
}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), type(value).__name__)


def _set(before: Any, value: Any) -> Any:
    if type(value) is str:
        if len(value) >= VALUE_SIZE or not value.isascii():
            json_copy(value)
        return before if before == value else value
    value = json_copy(value)
    if type(value) is float and type(before) is float:
        return before if before == value else value
    return before if before is not MISSING and same(before, value) else value


def _unset(before: Any, value: Any) -> Any:  # noqa: ARG001 - all operations are called alike
    return MISSING


def _increment(before: Any, value: Any) -> Any:
    if type(value) not in NUMBERS:
        raise PathError(f"cannot increment by {_kind(json_copy(value))}")
    check_number(value)
    start = 0 if before is MISSING or before is None else before
    if type(start) not in NUMBERS:
        raise PathError(f"cannot increment {_kind(start)}")
    return sum_of(start, value)


def _list_of(before: Any, verb: str) -> list[Any]:
    if before is MISSING or before is None:
        return []
    if type(before) is not list:
        raise PathError(f"cannot {verb} {_kind(before)}")
    return before


def _append(before: Any, value: Any) -> Any:
    value = json_copy(value)
    items = _list_of(before, "append to")
    if len(items) >= LIST_ITEMS:
        raise PathError(f"the list has {LIST_ITEMS:,} items already")
    return [*items, value]


def _add(before: Any, value: Any) -> Any:
    if type(value) is str and type(before) is list and value in before:
        return before
    value = json_copy(value)
    items = _list_of(before, "add to")
    there = value in items if type(value) is str else any(same(item, value) for item in items)
    return before if there else _append(before, value)


def _remove(before: Any, value: Any) -> Any:
    value = json_copy(value)
    items = _list_of(before, "remove from")
    left = [item for item in items if not same(item, value)]
    return before if len(left) == len(items) else left


OPERATIONS: Final[dict[str, Operation]] = {
    "set": _set,
    "unset": _unset,
    "increment": _increment,
    "append": _append,
    "add": _add,
    "remove": _remove,
}
"""What an operation makes of what was there, with a copy of the value: the same object when nothing changes, MISSING
when it goes away."""
