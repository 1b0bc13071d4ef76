"""Compares what a test expects with what came out."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

ABSENT: Any = ...
"""Stands for a value that is not there."""


class Difference(NamedTuple):
    """One expectation that was not met: where, what was expected, what came, or a sentence."""

    place: str
    expected: Any = ABSENT
    actual: Any = ABSENT
    text: str = ""


def differences(place: str, expected: Any, actual: Any) -> Iterator[Difference]:
    """Yield where a value is not as expected.

    Of an object only the named members are compared; a member that is expected to be null may also be absent. Lists
    have as many items, in the same order; other values are equal.
    """
    if isinstance(expected, dict) and isinstance(actual, dict):
        for name, value in expected.items():
            there = actual.get(name, ABSENT)
            if not (value is None and there is ABSENT):
                yield from differences(f"{place}.{name}", value, there)
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        for index, (one, other) in enumerate(zip(expected, actual, strict=True)):
            yield from differences(f"{place}[{index}]", one, other)
    elif not _equal(expected, actual):
        yield Difference(place, expected, actual)


def _equal(expected: Any, actual: Any) -> bool:
    # In Python true is 1; in JSON it is not.
    return isinstance(expected, bool) is isinstance(actual, bool) and bool(expected == actual)


def shown(value: Any) -> str:
    """Write a value as JSON, on one line."""
    return "nothing" if value is ABSENT else json.dumps(value, ensure_ascii=False, default=str)
