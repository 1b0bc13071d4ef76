"""How two values of one field become one."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from headrace.engine.errors import PathError
from headrace.engine.language.lookup import MISSING
from headrace.engine.model import iso
from headrace.engine.writing.edit import sum_of

_canonical = msgspec.json.Encoder(order="sorted").encode


class Given(NamedTuple):
    """The value that one of two profiles has for a field, or MISSING, and when it was written (`model.iso`, or "")."""

    value: Any
    at: str = ""


Pick = Callable[[Given, Given], Given]
"""Returns what two values become, neither of them MISSING; the first is that of the profile that lives on.

Order does not matter but for `keep`, grouping does not matter but for sums too large to be kept, and of two equal
values comes that value."""


def leaf_of(strategy: str, mine: Given, theirs: Given) -> Given:
    """Return what two values become by a strategy; MISSING where there is none."""
    if strategy == "keep":
        return mine
    if mine.value is MISSING:
        return theirs
    return mine if theirs.value is MISSING else PICKS[strategy](mine, theirs)


def text_of(value: Any) -> bytes:
    """Return a JSON value as a text; values that are the same have the same one."""
    return _canonical(value)


def is_number(value: Any) -> bool:
    """Say whether a value counts as a number; a boolean does not."""
    return type(value) in (int, float)


def is_same(one: Any, other: Any) -> bool:
    """Say whether two JSON values are the same; MISSING is only itself."""
    if one is MISSING or other is MISSING:
        return one is other
    if type(one) is type(other) and type(one) in (str, int, bool):
        return bool(one == other)
    return text_of(one) == text_of(other)


def _newest(mine: Given, theirs: Given) -> Given:
    return max(mine, theirs, key=lambda one: (one.at, text_of(one.value)))


def _oldest(mine: Given, theirs: Given) -> Given:
    return min(mine, theirs, key=lambda one: (one.at, text_of(one.value)))


def _rank(given: Given) -> tuple[int, Any, bytes, str]:
    """Order all values: numbers by size, texts by the alphabet, whatever else by its JSON."""
    value = given.value
    if is_number(value):
        return 2, value, text_of(value), given.at
    if isinstance(value, str):
        return 1, value, b"", given.at
    return 0, text_of(value), b"", given.at


def _largest(mine: Given, theirs: Given) -> Given:
    return max(mine, theirs, key=_rank)


def _smallest(mine: Given, theirs: Given) -> Given:
    # What is no number is larger than any.
    return min(mine, theirs, key=lambda one: (-_rank(one)[0], *_rank(one)[1:]))


def _sum(mine: Given, theirs: Given) -> Given:
    if is_number(mine.value) and is_number(theirs.value):
        # A sum that cannot be kept would be nothing at all.
        with suppress(PathError):
            return Given(sum_of(mine.value, theirs.value), max(mine.at, theirs.at))
    return _largest(mine, theirs)


def _union(mine: Given, theirs: Given) -> Given:
    if is_same(mine.value, theirs.value):
        return Given(mine.value, max(mine.at, theirs.at))
    items = items_of(mine.value)
    known = {text_of(item) for item in items}
    made = [*items, *(item for item in items_of(theirs.value) if text_of(item) not in known)]
    return Given(made, max(mine.at, theirs.at))


def items_of(value: Any) -> list[Any]:
    """Return the items of a list; of any other value a list of only that."""
    return value if isinstance(value, list) else [value]


def _and(mine: Given, theirs: Given) -> Given:
    return _of_truth(mine, theirs, bool(mine.value) and bool(theirs.value))


def _or(mine: Given, theirs: Given) -> Given:
    return _of_truth(mine, theirs, bool(mine.value) or bool(theirs.value))


def _of_truth(mine: Given, theirs: Given, truth: bool) -> Given:
    value = mine.value if is_same(mine.value, theirs.value) else truth
    return Given(value, max(mine.at, theirs.at))


def _consent(mine: Given, theirs: Given) -> Given:
    """Take the consent that was said last; of two of one moment, or of unknown moments, the one that is not given."""
    return max(mine, theirs, key=lambda one: _last_said(one.value))


def is_said_later(consent: Any, other: Any) -> bool:
    """Say whether of two consents the first counts when both are one's."""
    return _last_said(consent) > _last_said(other)


def _last_said(consent: Any) -> tuple[bool, str, bool, bytes]:
    """Order consents by when they were said. A no of which that is not known counts as said last, a yes as first."""
    said = consent if isinstance(consent, dict) else {}
    at, is_no = _moment(said.get("at")), said.get("given") is not True
    return is_no and not at, at, is_no, text_of(consent)


def _moment(at: Any) -> str:
    """Return a time as `model.iso` writes it, "" for what is none."""
    try:
        time = datetime.fromisoformat(at)
        return iso(time.astimezone(UTC) if time.tzinfo else time)
    except (TypeError, ValueError, OverflowError):
        return ""


def _latest(mine: Given, theirs: Given) -> Given:
    return max(
        mine,
        theirs,
        key=lambda one: (str(one.value.get("at")) if isinstance(one.value, dict) else "", text_of(one.value)),
    )


PICKS: Final[Mapping[str, Pick]] = {
    "newest": _newest,
    "oldest": _oldest,
    "first_set": _oldest,
    "largest": _largest,
    "smallest": _smallest,
    "sum": _sum,
    "union": _union,
    "and": _and,
    "or": _or,
    "consent": _consent,
    "latest": _latest,
}
"""What each strategy does where both profiles have a value; of `keep` only the one that lives on counts."""
