"""Questions in SQL: get, find, count and report."""

import re
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from headrace.engine.model import Doc, iso, make_key
from headrace.engine.store.encoding import decode_doc
from headrace.engine.store.protocol import AskKind, Page, Query
from headrace.engine.store.question import (
    TIME,
    asked_fields,
    page_size,
    read_cursor,
    split_path,
    write_cursor,
)
from headrace.engine.store.sqlite.rows import Key, pack_key


class _Kind(NamedTuple):
    """Where a kind is kept: its table, the column of its time, and what always holds."""

    table: str
    time: str
    always: str


_KINDS: dict[AskKind, _Kind] = {
    "profile": _Kind("profiles", TIME["profile"], "NOT hidden"),
    "session": _Kind("sessions", TIME["session"], "NOT hidden"),
    "event": _Kind("events", TIME["event"], "type IS NOT NULL"),
    "failed": _Kind("failed", TIME["failed"], "1"),
    "effect": _Kind("effects", TIME["effect"], "1"),
    "timer": _Kind("timers", TIME["timer"], "1"),
    "trace": _Kind("traces", TIME["trace"], "1"),
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
    table, _, always = _KINDS[kind]
    sql = f"SELECT doc FROM {table} WHERE key = ? AND {always}"  # noqa: S608 - names of ours
    row = connection.execute(sql, (pack_key(key),)).fetchone()
    return decode_doc(row[0]) if row else None


def find_page(connection: sqlite3.Connection, query: Query) -> Page:
    """Return the newest documents that fit. Raises InputError for a bad cursor or question."""
    kind = _KINDS[query.kind]
    where, values = _conditions(query, kind)
    limit = page_size(query)
    if query.cursor is not None:
        where += f" AND ({kind.time}, n) < (?, ?)"
        values += read_cursor(query.cursor, query.kind, str, int)
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


def _table(query: Query, kind: _Kind) -> str:
    """Return the table to ask, with the index to use: without statistics SQLite does not know which one is narrow."""
    for name in ("profile", "session", "event"):
        if getattr(query, name) is not None and name != query.kind and f"{kind.table}_by_{name}" in _INDICES:
            return f"{kind.table} INDEXED BY {kind.table}_by_{name}"
    return kind.table


def _conditions(query: Query, kind: _Kind) -> tuple[str, list[Any]]:
    """Return the WHERE of a question and the values that are bound to it."""
    clauses, values = [kind.always, "tenant = ?"], [query.tenant]
    for clause, value in (*_fields(query), *_times(query, kind)):
        clauses.append(clause)
        values += value
    for path, text in query.where.items():
        clause, bound = _fits(split_path(path), text)
        clauses.append(clause)
        values += bound
    return " AND ".join(clauses), values


def _fields(query: Query) -> list[tuple[str, list[Any]]]:
    """Return the equalities that are asked for. Raises InputError for one that the kind does not have."""
    made: list[tuple[str, list[Any]]] = []
    for name, value in asked_fields(query):
        if isinstance(value, datetime):
            made.append(("happened >= ?", [iso(value)]))
            continue
        several = [value] if isinstance(value, str) else list(value)
        if name == query.kind == "event":
            made.append(("(key = ? OR id = ?)", [pack_key(several[0]), several[0]]))
        else:
            own = name == query.kind
            # None of none: without any the index of those that have one cannot be used.
            bound: list[Any] = [_own_key(query, one) if own else one for one in several] or [None]
            marks = ", ".join("?" * len(bound))
            made.append((f"{'key' if own else name} IN ({marks})", bound))
    return made


def _times(query: Query, kind: _Kind) -> list[tuple[str, list[Any]]]:
    bounds = ((">=", query.since), ("<", query.until))
    return [(f"{kind.time} {sign} ?", [iso(time)]) for sign, time in bounds if time is not None]


def _own_key(query: Query, value: str) -> Key:
    return pack_key(make_key(query.kind, query.tenant, value))


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
