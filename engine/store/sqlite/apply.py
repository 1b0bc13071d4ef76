"""Decides and writes a batch of changes within one transaction."""

import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TypeVar

from headrace.engine.store.protocol import Committed, Conflict, Outcome, Taken
from headrace.engine.store.sqlite.rows import COLUMNS, Key, Prepared, Values, unpack_key

T = TypeVar("T")

COMMITTED = Committed()
CONFLICT = Conflict()

_SIZES = (128, 32, 8, 4, 2, 1)
"""How many rows one statement takes. Few sizes, so that statements stay compiled; many rows in one, because
each statement gives the interpreter's lock away and has to win it back."""

_KEEP = "ON CONFLICT (key) DO NOTHING"
_PROFILE = (
    "ON CONFLICT (key) DO UPDATE SET version = excluded.version, change = excluded.change,"
    " updated = excluded.updated, doc = excluded.doc"
)
# A column that is named here has its index written again, even when its value stays.
_SESSION = (
    "ON CONFLICT (key) DO UPDATE SET version = excluded.version, change = excluded.change,"
    " updated = excluded.updated, doc = excluded.doc"
)
_SESSION_MOVED = _SESSION + ", source = excluded.source, profile = excluded.profile, hidden = excluded.hidden"


@lru_cache(maxsize=256)
def insert_sql(table: str, rows: int, tail: str = _KEEP) -> str:
    """Return an INSERT of a number of rows; all names in it are ours."""
    columns = COLUMNS[table]
    marks = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([marks] * rows)} {tail}"  # noqa: S608


@lru_cache(maxsize=64)
def select_sql(table: str, columns: str, rows: int) -> str:
    """Return a SELECT by a number of keys; all names in it are ours."""
    return f"SELECT key, {columns} FROM {table} WHERE key IN ({', '.join('?' * rows)})"  # noqa: S608


def parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut a sequence into pieces whose lengths are of few sizes."""
    at, left = 0, len(values)
    for size in _SIZES:
        while left >= size:
            yield values[at : at + size]
            at, left = at + size, left - size


def select_by_key(
    connection: sqlite3.Connection, table: str, columns: str, keys: Sequence[Key]
) -> Iterator[Values]:
    """Yield (key, columns …) of the rows that exist."""
    for piece in parts(keys):
        yield from connection.execute(select_sql(table, columns, len(piece)), piece)


def insert_rows(
    connection: sqlite3.Connection, table: str, rows: Sequence[Values], tail: str = _KEEP
) -> None:
    """Insert rows with as few statements as are worth it."""
    for piece in parts(rows):
        values = piece[0] if len(piece) == 1 else [value for row in piece for value in row]
        connection.execute(insert_sql(table, len(piece), tail), values)


class _Known:
    """What the tables hold of all that a batch touches, brought up to date as its changes are taken."""

    def __init__(self, connection: sqlite3.Connection, batch: Iterable[Prepared]) -> None:
        keys: dict[str, set[Key]] = defaultdict(set)
        for change in batch:
            if change.profile:
                keys["profiles"].add(change.profile[0])
            if change.session:
                keys["sessions"].add(change.session[0])
            if change.claims:
                keys["claims"].update(row[0] for row in change.claims)
            if change.events:
                keys["events"].update(row[0] for row in change.events)

        def look(table: str, columns: str) -> dict[Key, Values]:
            found = select_by_key(connection, table, columns, list(keys[table])) if table in keys else ()
            return {row[0]: row[1:] for row in found}

        self.profiles = look("profiles", "version, change")
        self.sessions = look("sessions", "version, change, profile, hidden")
        self.claims = look("claims", "profile")
        self.events = look("events", "change")


def apply_batch(connection: sqlite3.Connection, batch: Sequence[Prepared]) -> list[Outcome]:
    """Write all changes that fit together with what is stored, and with each other, in their order.

    Must be called within a transaction. Returns an outcome for each; one that is not committed wrote nothing.
    """
    known = _Known(connection, batch)
    # A document made anew after it was erased must not come back with a version that someone still holds.
    first_version = time.time_ns() // 1000
    writes: dict[tuple[str, str], list[Values]] = defaultdict(list)
    outcomes: list[Outcome] = []
    for change in batch:
        outcome = _check(change, known)
        if outcome is None:
            _take(change, known, writes, first_version)
            outcome = COMMITTED
        outcomes.append(outcome)
    for (table, tail), rows in writes.items():
        insert_rows(connection, table, rows, tail)
    return outcomes


def _check(change: Prepared, known: _Known) -> Outcome | None:
    """Return what stands against a change, COMMITTED when it was applied before, or None if it fits."""
    for row, read, stored in (
        (change.profile, change.profile_version, known.profiles),
        (change.session, change.session_version, known.sessions),
    ):
        if row is None:
            continue
        there = stored.get(row[0])
        if there is None:
            if read is not None:
                return CONFLICT
        elif there[1] == change.id:
            return COMMITTED
        elif read is None:
            return Taken(unpack_key(row[0]), there[2]) if stored is known.sessions else CONFLICT
        elif (there[0], 0) != read:
            return CONFLICT
    for row in change.claims:
        there = known.claims.get(row[0])
        if there is not None and there[0] != row[2]:
            return Taken(unpack_key(row[0]), there[0])
    for row in change.events:
        there = known.events.get(row[0])
        if there is not None:
            return COMMITTED if there[0] == change.id else CONFLICT
    return None


def _take(
    change: Prepared, known: _Known, writes: dict[tuple[str, str], list[Values]], first_version: int
) -> None:
    """Note the rows of a change for writing, with their new versions."""
    if change.profile and change.profile_changed:
        key, _, *rest = change.profile
        there = known.profiles.get(key)
        version = there[0] + 1 if there else first_version
        writes["profiles", _PROFILE].append((key, version, *rest))
        known.profiles[key] = (version, change.id)
    if change.session and change.session_changed:
        key, _, *rest = change.session
        there = known.sessions.get(key)
        version = there[0] + 1 if there else first_version
        now = (version, change.id, change.session[5], change.session[6])
        tail = _SESSION if there is None or there[2:] == now[2:] else _SESSION_MOVED
        writes["sessions", tail].append((key, version, *rest))
        known.sessions[key] = now
    for row in change.claims:
        if row[0] not in known.claims:
            writes["claims", _KEEP].append(row)
            known.claims[row[0]] = (row[2],)
    for row in change.events:
        known.events[row[0]] = (change.id,)
    if change.events:
        writes["events", _KEEP].extend(change.events)
    for table, rows in change.others:
        writes[table, _KEEP].extend(rows)
