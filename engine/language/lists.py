"""Functions for lists and objects."""

from datetime import datetime
from difflib import get_close_matches
from typing import Any, Final

from headrace.engine.language.limits import LOOP_ROUNDS, EvaluationError, check_items
from headrace.engine.language.lookup import MISSING, get_item
from headrace.engine.language.registry import BadLiteral, Function, Prepared, function
from headrace.engine.language.values import (
    COMPARISONS,
    Comparison,
    attribute_keys,
    by_path,
    is_absent,
    json_text,
    new_list,
    plain,
)

_LIST: Final = list
_WORDS: Final = {
    "==": "eq",
    "!=": "ne",
    "<": "lt",
    "<=": "lteq",
    ">": "gt",
    ">=": "gteq",
    "in": "in",
    "not in": "notin",
}


def _parse_comparison(text: str) -> Comparison:
    if text not in _WORDS:
        close = get_close_matches(text, _WORDS, 1)
        fix = f"did you mean {close[0]!r}?" if close else f"use one of {', '.join(_WORDS)}"
        raise BadLiteral(f"no comparison {text!r}", fix)
    return COMPARISONS[_WORDS[text]][1]


_COMPARISON = Prepared(_parse_comparison)


def _checked(value: Any) -> list[Any] | None:
    if not isinstance(value, list):
        return None
    check_items(len(value))
    return value


@function()
def first(list: Any) -> Any:  # noqa: A002 - authors read this name, here and below
    """Give the first item of a list, or the first character of a text.

    >>> first(event.properties.tags)
    "red"
    """
    return list[:1] or MISSING if isinstance(list, str) else get_item(list, 0)


@function()
def last(list: Any) -> Any:  # noqa: A002
    """Give the last item of a list, or the last character of a text.

    >>> event.properties.tags | last
    "wool"
    """
    return list[-1:] or MISSING if isinstance(list, str) else get_item(list, -1)


@function()
def reverse(list: Any) -> Any:  # noqa: A002
    """Turn a list, or a text, around.

    >>> reverse([1, 2, 3])
    [3, 2, 1]
    """
    if isinstance(list, str):
        return list[::-1]
    items = _checked(list)
    return MISSING if items is None else items[::-1]


def _order(value: Any) -> tuple[int, Any]:
    if isinstance(value, bool):
        return 0, value
    if isinstance(value, int | float):
        return 1, value
    if isinstance(value, str):
        return 2, value
    if isinstance(value, datetime):
        return 3, value
    return (5, 0) if is_absent(value) else (4, 0)


@function()
def sort(scope: Any, list: Any, attribute: Any = None, reverse: Any = False) -> Any:  # noqa: A002
    """Sort a list, or its items by one member: numbers, then texts, then the rest; null last.

    >>> event.properties.items | sort('price') | map('sku')
    ["b", "a"]
    """
    items = _checked(list)
    if items is None:
        return MISSING
    keys = attribute_keys(scope, items, attribute)
    return sorted(items, key=lambda item: _order(by_path(item, keys)), reverse=reverse is True)


def _mark(item: Any) -> Any:
    if isinstance(item, dict):
        return dict, json_text(dict(sorted(item.items())))
    if isinstance(item, list):
        return list, json_text(item)
    return bool if isinstance(item, bool) else None, item


@function()
def unique(scope: Any, list: Any) -> Any:  # noqa: A002
    """Leave out items that stood in the list before.

    >>> unique(['a', 'b', 'a'])
    ["a", "b"]
    """
    items = _checked(list)
    if items is None:
        return MISSING
    kept: dict[Any, Any] = {}
    for item in items:
        mark = _mark(item)
        if mark[0] is _LIST or mark[0] is dict:
            scope.spend(len(mark[1]))
        kept.setdefault(mark, item)
    return [*kept.values()]


@function()
def map_(scope: Any, list: Any, attribute: Any) -> Any:  # noqa: A002
    """Give one member of each item; a dot goes deeper. Items without it give null.

    >>> event.properties.items | map('sku')
    ["a", "b"]
    """
    items = _checked(list)
    keys = () if items is None else attribute_keys(scope, items, attribute)
    return MISSING if items is None or not keys else new_list(*(by_path(item, keys) for item in items))


@function(comparison=_COMPARISON)
def where(scope: Any, list: Any, attribute: Any, comparison: Any = None, value: Any = None) -> Any:  # noqa: A002
    """Give the items of which a member compares so with a value; without a comparison those where it is true.

    >>> event.properties.items | where('price', '>', 20) | map('sku')
    ["a"]
    """
    items = _checked(list)
    keys = () if items is None else attribute_keys(scope, items, attribute)
    if items is None or not keys:
        return MISSING
    if comparison is None:
        return [item for item in items if by_path(item, keys)]
    return [item for item in items if comparison(scope, by_path(item, keys), value)]


@function()
def flatten(list: Any) -> Any:  # noqa: A002
    """Make one list of a list of lists.

    >>> flatten([[1, 2], [3], 4])
    [1, 2, 3, 4]
    """
    items = _checked(list)
    if items is None:
        return MISSING
    flat: list[Any] = []
    for item in items:
        flat.extend(item if isinstance(item, _LIST) else [item])
        check_items(len(flat))
    return flat


@function()
def keys(object: Any) -> Any:  # noqa: A002
    """List the keys of an object.

    >>> keys({'a': 1, 'b': 2})
    ["a", "b"]
    """
    return _checked(_LIST(object)) if isinstance(object, dict) else MISSING


@function()
def values(object: Any) -> Any:  # noqa: A002
    """List the values of an object.

    >>> values({'a': 1, 'b': 2})
    [1, 2]
    """
    return _checked(_LIST(object.values())) if isinstance(object, dict) else MISSING


@function()
def pairs(object: Any) -> Any:  # noqa: A002
    """List the keys and values of an object, as lists of two.

    >>> pairs({'a': 1})
    [["a", 1]]
    """
    return _checked([[key, value] for key, value in object.items()]) if isinstance(object, dict) else MISSING


@function()
def range_(start: Any, stop: Any = None) -> Any:
    """List whole numbers from 0, or from a first number, up to but not with a last one; at most 1,000.

    >>> range(1, 4)
    [1, 2, 3]
    """
    low, high = (0, start) if stop is None else (start, stop)
    if type(low) is not int or type(high) is not int:
        return MISSING
    if high - low > LOOP_ROUNDS:
        raise EvaluationError(f"a range of more than {LOOP_ROUNDS:,} numbers")
    return _LIST(range(low, high))


@function()
def one_of(scope: Any, value: Any, *choices: Any) -> bool:
    """Say whether a value is one of several.

    >>> event.type | one_of('purchase-order', 'refund')
    true
    """
    within = COMPARISONS["in"][1]
    return bool(within(scope, value, [plain(choice) for choice in choices]))


FUNCTIONS: Final[tuple[Function, ...]] = (
    first,
    last,
    reverse,
    sort,
    unique,
    map_,
    where,
    flatten,
    keys,
    values,
    pairs,
    range_,
    one_of,
)
