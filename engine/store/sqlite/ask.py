"""Questions in SQL: get, find, count and report."""

import base64
import binascii
import re
import sqlite3
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from headrace.engine.errors import InputError
from headrace.engine.model import Doc, iso, make_key
from headrace.engine.store.encoding import decode_doc
from headrace.engine.store.protocol import AskKind, Page, Query
from headrace.engine.store.sqlite.rows import Key, pack_key

MAX_LIMIT = 1000
MAX_PATH = 32


class _Kind(NamedTuple):
    """Where a kind is kept: its table, the column of its time, what always holds, what it can be asked by."""

    table: str
    time: str
    always: str
    fields: frozenset[str]


_LISTED = frozenset({"type", "source", "profile", "session", "event", "status"})
_KINDS: dict[AskKind, _Kind] = {
    "profile": _Kind("profiles", "created", "1", frozenset({"profile"})),
    "session": _Kind("sessions", "created", "NOT hidden", frozenset({"source", "profile", "session"})),
    "event": _Kind("events", "received", "type IS NOT NULL", _LISTED - {"status"} | {"happened_since"}),
    "failed": _Kind("failed", "created", "1", _LISTED),
    "effect": _Kind("effects", "created", "1", _LISTED),
    "timer": _Kind("timers", "created", "1", _LISTED),
    "trace": _Kind("traces", "created", "1", _LISTED),
}

_LISTS = ("failed", "effects", "timers", "traces")
_INDICES = frozenset(
    (
        *("sessions_by_profile", "events_by_profile", "events_by_session"),
        *(f"{table}_by_{name}" for table in _LISTS for name in ("profile", "event")),
    )
)


def get_doc(connection: sqlite3.Connection, kind: AskKind, key: str) -> Doc | None:
    """Return one document by its key."""
    table, _, always, _ = _KINDS[kind]
    sql = f"SELECT doc FROM {table} WHERE key = ? AND {always}"  # noqa: S608 - names of ours
    row = connection.execute(sql, (pack_key(key),)).fetchone()
    return decode_doc(row[0]) if row else None


def find_page(connection: sqlite3.Connection, query: Query) -> Page:
    """Return the newest documents that fit. Raises InputError for a bad cursor or question."""
    kind = _KINDS[query.kind]
    where, values = _conditions(query, kind)
    limit = min(max(query.limit, 1), MAX_LIMIT)
    if query.cursor is not None:
        where += f" AND ({kind.time}, n) < (?, ?)"
        values += read_cursor(query.cursor, query.kind)
    # The inner question is about small columns only, so that sorting carries no documents around.
    inner = f"SELECT n FROM {_table(query, kind)} WHERE {where} ORDER BY {kind.time} DESC, n DESC LIMIT ?"  # noqa: S608
    sql = (
        f"SELECT {kind.time}, n, doc FROM {kind.table} WHERE n IN ({inner}) ORDER BY {kind.time} DESC, n DESC"  # noqa: S608
    )
    rows = connection.execute(sql, (*values, limit + 1)).fetchall()
    items = [decode_doc(row[2]) for row in rows[:limit]]
    return Page(items, write_cursor(query.kind, *rows[limit - 1][:2]) if len(rows) > limit else None)


def count_docs(connection: sqlite3.Connection, query: Query, at_most: int | None) -> int:
    """Return how many documents fit, counting no further than `at_most`."""
    kind = _KINDS[query.kind]
    where, values = _conditions(query, kind)
    most = -1 if at_most is None else max(at_most, 0)
    sql = f"SELECT count(*) FROM (SELECT 1 FROM {_table(query, kind)} WHERE {where} LIMIT ?)"  # noqa: S608
    return int(connection.execute(sql, (*values, most)).fetchone()[0])


def report_events(
    connection: sqlite3.Connection, query: Query, by: Literal["type", "day", "source"]
) -> list[Doc]:
    """Count events and distinct profiles: days in order, types and sources by their number of events."""
    kind = _KINDS["event"]
    where, values = _conditions(query, kind)
    bucket = {"type": "type", "day": "substr(received, 1, 10)", "source": "source"}[by]
    order = "1" if by == "day" else "2 DESC, 1"
    sql = (
        f"SELECT {bucket}, count(*), count(DISTINCT profile) FROM {_table(query, kind)} WHERE {where}"  # noqa: S608
        f" GROUP BY 1 ORDER BY {order}"
    )
    rows = connection.execute(sql, values)
    return [{"bucket": name, "events": events, "profiles": profiles} for name, events, profiles in rows]


def write_cursor(kind: AskKind, time: str, n: int) -> str:
    """Return the cursor of the page that follows a row."""
    return base64.urlsafe_b64encode(msgspec.json.encode((kind, time, n))).decode().rstrip("=")


def read_cursor(cursor: str, kind: AskKind) -> list[Any]:
    """Return the time and row that a cursor of a kind names. Raises InputError."""
    try:
        data = base64.b64decode(
            cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True
        )
        of, time, n = msgspec.json.decode(data, type=tuple[str, str, int])
        # Larger numbers than a row can have would not go into a statement.
        n.to_bytes(8, "big", signed=True)
    except (UnicodeError, binascii.Error, msgspec.DecodeError, OverflowError) as error:
        msg = "The cursor is none that this server gave. Ask without it for the first page."
        raise InputError(422, "bad_cursor", msg) from error
    if of != kind:
        raise InputError(422, "bad_cursor", f"The cursor is of another list ({of[:20]}). Ask without it.")
    return [time, n]


def _table(query: Query, kind: _Kind) -> str:
    """Return the table to ask, with the index to use: without statistics SQLite does not know which one is narrow."""
    for name in ("profile", "session", "event"):
        if getattr(query, name) is not None and name != query.kind and f"{kind.table}_by_{name}" in _INDICES:
            return f"{kind.table} INDEXED BY {kind.table}_by_{name}"
    return kind.table


def _conditions(query: Query, kind: _Kind) -> tuple[str, list[Any]]:
    """Return the WHERE of a question and the values that are bound to it."""
    clauses, values = [kind.always, "tenant = ?"], [query.tenant]
    for clause, value in (*_fields(query, kind), *_times(query, kind)):
        clauses.append(clause)
        values += value
    for path, text in query.where.items():
        clause, bound = _fits(split_path(path), text)
        clauses.append(clause)
        values += bound
    return " AND ".join(clauses), values


def _fields(query: Query, kind: _Kind) -> list[tuple[str, list[Any]]]:
    """Return the equalities that are asked for. Raises InputError for one that the kind does not have."""
    made: list[tuple[str, list[Any]]] = []
    for name in ("type", "source", "profile", "session", "event", "status", "happened_since"):
        value = getattr(query, name)
        if value is None:
            continue
        if name not in kind.fields:
            known = ", ".join(sorted(kind.fields))
            raise InputError(
                422, "bad_query", f"A {query.kind} cannot be asked for by {name}; it can by: {known}."
            )
        if name == "happened_since":
            made.append(("happened >= ?", [iso(value)]))
        elif name == query.kind == "event":
            made.append(("(key = ? OR id = ?)", [pack_key(value), value]))
        elif name == query.kind:
            made.append(("key = ?", [_own_key(query, value)]))
        else:
            made.append((f"{name} = ?", [value]))
    return made


def _times(query: Query, kind: _Kind) -> list[tuple[str, list[Any]]]:
    bounds = ((">=", query.since), ("<", query.until))
    return [(f"{kind.time} {sign} ?", [iso(time)]) for sign, time in bounds if time is not None]


def _own_key(query: Query, value: str) -> Key:
    return pack_key(make_key(query.kind, query.tenant, value))


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


def _fits(names: Sequence[str], text: str) -> tuple[str, list[Any]]:
    """Return the condition that the value at a path, or a member of the list there, equals a text.

    Names are bound, never written into the SQL; and they are compared with json_each's keys, because SQLite's
    own paths have no way to say a name with a quotation mark.
    """
    tables, conditions, values = [], [], []
    inside = "CAST(doc AS TEXT)"
    for level, name in enumerate(names):
        tables.append(f"json_each({inside}) j{level}")
        conditions.append(f"j{level}.key = ?")
        values.append(name)
        inside = f"CASE j{level}.type WHEN 'object' THEN j{level}.value ELSE '{{}}' END"
    last = f"j{len(names) - 1}"
    listed = f"json_each(CASE {last}.type WHEN 'array' THEN {last}.value ELSE '[]' END) item"
    equal, bound = _equal(last, text)
    equal_item, _ = _equal("item", text)
    clause = (
        f"EXISTS (SELECT 1 FROM {', '.join(tables)} WHERE {' AND '.join(conditions)}"  # noqa: S608
        f" AND ({equal} OR EXISTS (SELECT 1 FROM {listed} WHERE {equal_item})))"
    )
    return clause, [*values, *bound, *bound]


def _equal(row: str, text: str) -> tuple[str, list[Any]]:
    """Return the condition that one JSON value equals a text; numbers and booleans as JSON writes them."""
    if text in ("true", "false"):
        return f"({row}.type = ? OR ({row}.type = 'text' AND {row}.atom = ?))", [text, text]
    try:
        number = float(text) if len(text) < 400 and text.isascii() else None
    except ValueError:
        number = None
    if number is None:
        return f"({row}.type = 'text' AND {row}.atom = ?)", [text]
    exact: int | float = number
    if re.fullmatch(r"-?\d{1,18}", text):
        exact = int(text)
    as_text = f"({row}.type = 'text' AND {row}.atom = ?)"
    return f"({as_text} OR ({row}.type IN ('integer', 'real') AND {row}.atom = ?))", [text, exact]
