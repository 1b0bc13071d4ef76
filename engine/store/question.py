"""What may be asked, and the cursors of pages, in every store."""

import base64
import binascii
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from headrace.engine.errors import InputError
from headrace.engine.store.protocol import AskKind, Query

MAX_LIMIT = 1000
MAX_PATH = 32

_NAMES = ("type", "source", "profile", "session", "event", "status", "happened_since")
_LISTED = frozenset({"type", "source", "profile", "session", "event", "status"})

FIELDS: dict[AskKind, frozenset[str]] = {
    "profile": frozenset({"profile"}),
    "session": frozenset({"source", "profile", "session"}),
    "event": _LISTED - {"status"} | {"happened_since"},
    "failed": _LISTED,
    "effect": _LISTED,
    "timer": _LISTED,
    "trace": _LISTED,
}
"""What a kind can be asked by."""

TIME: dict[AskKind, str] = dict.fromkeys(FIELDS, "created") | {"event": "received"}
"""The time by which documents of a kind are listed, newest first."""


def page_size(query: Query) -> int:
    """Return how many documents a page holds at most."""
    return min(max(query.limit, 1), MAX_LIMIT)


def asked_fields(query: Query) -> Iterator[tuple[str, str | datetime | tuple[str, ...]]]:
    """Yield the fields that are asked for, with their values. Raises InputError for one that the kind does not have."""
    fields = FIELDS[query.kind]
    for name in _NAMES:
        value = getattr(query, name)
        if value is None:
            continue
        if name not in fields:
            known = ", ".join(sorted(fields))
            raise InputError(
                422, "bad_query", f"A {query.kind} cannot be asked for by {name}; it can by: {known}."
            )
        yield name, value


def bad_text() -> InputError:
    """Return the error for a text that UTF-8 cannot say."""
    return InputError(422, "bad_text", "A text in the question is not valid Unicode.")


def write_cursor(kind: AskKind, *values: str | int) -> str:
    """Return the cursor of the page that follows a document, which the values that pages are sorted by name."""
    return base64.urlsafe_b64encode(msgspec.json.encode((kind, *values))).decode().rstrip("=")


def read_cursor(cursor: str, kind: AskKind, *types: type) -> list[Any]:
    """Return the values that a cursor of a kind names, of these types. Raises InputError."""
    try:
        data = base64.b64decode(
            cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True
        )
        of, *values = msgspec.json.decode(data, type=tuple[(str, *types)])  # type: ignore[valid-type]
        for value in values:
            if isinstance(value, int):
                # Larger numbers than a document can have would not go into a question.
                value.to_bytes(8, "big", signed=True)
    except (UnicodeError, binascii.Error, msgspec.DecodeError, OverflowError) as error:
        msg = "The cursor is none that this server gave. Ask without it for the first page."
        raise InputError(422, "bad_cursor", msg) from error
    if of != kind:
        raise InputError(422, "bad_cursor", f"The cursor is of another list ({of[:20]}). Ask without it.")
    return values


_PART = re.compile(r"\.?([^.\[\]]+)|\['([^']*)'\]|\[\"([^\"]*)\"\]")


def split_path(path: str) -> list[str]:
    """Return the names in a dotted path; `['…']` holds a name with dots. Raises InputError."""
    names: list[str] = []
    at = 0
    while at < len(path):
        match = _PART.match(path, at)
        if match is None or (at == 0 and path[0] == "."):
            break
        names.append(next(group for group in match.groups() if group is not None))
        at = match.end()
    if at < len(path) or not 0 < len(names) <= MAX_PATH:
        msg = f"{path[:80]!r} is not a path. Write names with dots between them, such as traits.email"
        raise InputError(422, "bad_path", msg)
    return names
