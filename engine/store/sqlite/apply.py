"""Decides and writes a batch of changes within one transaction."""

import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import TypeVar

from headrace.engine.store.protocol import Committed, Conflict, Outcome, Taken
from headrace.engine.store.sqlite.rows import COLUMNS, Key, Prepared, Values, unpack_key

T = TypeVar("T")

COMMITTED = Committed()
CONFLICT = Conflict()

MOST_ROWS = 128
EXACT_ROWS = 32
"""How many rows one statement takes: any number up to this, else few sizes, so that statements stay compiled. Many
rows in one, because each statement gives the interpreter's lock away and has to win it back."""

MOST_REMEMBERED = 4096
"""Profiles, and sessions, whose versions are remembered from one transaction to the next."""

_KEEP = "ON CONFLICT (key) DO NOTHING"
# A column that is named here has its index written again, even when its value stays.
_CHANGED = (
    "version = excluded.version, change = excluded.change, updated = excluded.updated, doc = excluded.doc"
)
_MOVED = f"{_CHANGED}, source = excluded.source, profile = excluded.profile, hidden = excluded.hidden"


def _update(table: str, columns: str = _CHANGED) -> str:
    """Return what becomes of a row that is there: the next version, or nothing if another one came between."""
    return f"ON CONFLICT (key) DO UPDATE SET {columns} WHERE {table}.version = excluded.version - 1"


_PROFILE, _SESSION, _SESSION_MOVED = _update("profiles"), _update("sessions"), _update("sessions", _MOVED)
_GIVEN_UP = "ON CONFLICT (key) DO UPDATE SET profile = excluded.profile, doc = excluded.doc"
_PROFILE_MERGED = _update("profiles", f"{_CHANGED}, hidden = excluded.hidden")


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
    while left:
        size = left if left <= EXACT_ROWS else min(1 << left.bit_length() - 1, MOST_ROWS)
        yield values[at : at + size]
        at, left = at + size, left - size


def select_by_key(
    connection: sqlite3.Connection, table: str, columns: str, keys: Sequence[Key]
) -> Iterator[Values]:
    """Yield (key, columns …) of the rows that exist."""
    for piece in parts(keys):
        yield from connection.execute(select_sql(table, columns, len(piece)), piece)


def insert_rows(connection: sqlite3.Connection, table: str, rows: Sequence[Values], tail: str = _KEEP) -> int:
    """Insert rows with as few statements as are worth it; returns how many were written."""
    written = 0
    for piece in parts(rows):
        values = piece[0] if len(piece) == 1 else tuple(chain.from_iterable(piece))
        written += connection.execute(insert_sql(table, len(piece), tail), values).rowcount
    return written


_LOOK = {
    "profiles": "version, change, hidden",
    "sessions": "version, change, profile, hidden",
    "claims": "profile",
    "events": "change",
}


class Known:
    """What the tables hold of all that a batch touches, brought up to date as its changes are taken.

    Profiles and sessions are remembered from one batch to the next, which is right as long as nobody else writes.
    """

    def __init__(self) -> None:
        self.profiles: dict[Key, Values] = {}
        self.sessions: dict[Key, Values] = {}
        self.claims: dict[Key, Values] = {}
        self.events: dict[Key, Values] = {}

    def forget(self) -> None:
        """Forget everything: someone else may have written."""
        for table in (self.profiles, self.sessions, self.claims, self.events):
            table.clear()

    def look(self, connection: sqlite3.Connection, batch: Sequence[Prepared], *, guess: bool) -> None:
        """Read what is not known of the things that a batch touches.

        With `guess` a key that a change means to be new is taken as free, without a look: it nearly always is, and
        the statement that writes it tells.
        """
        self.claims.clear()
        self.events.clear()
        if max(len(self.profiles), len(self.sessions)) > MOST_REMEMBERED:
            self.forget()
        keys: dict[str, set[Key]] = defaultdict(set)
        for change in batch:
            for table, row, read, known in (
                ("profiles", change.profile, change.profile_version, self.profiles),
                ("sessions", change.session, change.session_version, self.sessions),
            ):
                if row and row[0] not in known and not (guess and read is None):
                    keys[table].add(row[0])
            if change.claims:
                keys["claims"].update(row[0] for row in change.claims)
            if change.events and not guess:
                keys["events"].update(row[0] for row in change.events)
        for table, wanted in keys.items():
            found = select_by_key(connection, table, _LOOK[table], list(wanted))
            getattr(self, table).update((row[0], row[1:]) for row in found)


Writes = dict[tuple[str, str], list[Values]]
"""Rows to write, by their table and by what becomes of a row that is there."""


def apply_batch(connection: sqlite3.Connection, batch: Sequence[Prepared], known: Known) -> list[Outcome]:
    """Write all changes that fit together with what is stored, and with each other, in their order.

    Must be called within a transaction, which may be begun again. Returns an outcome for each; one that is not
    committed wrote nothing.
    """
    known.look(connection, batch, guess=True)
    outcomes, writes = _decide(batch, known)
    if not _write(connection, writes):
        # A key that was taken as free is not: begin again, and look first.
        connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        known.forget()
        known.look(connection, batch, guess=False)
        outcomes, writes = _decide(batch, known)
        _write(connection, writes)
    return outcomes


def _decide(batch: Sequence[Prepared], known: Known) -> tuple[list[Outcome], Writes]:
    """Return an outcome for each change, and the rows of those that fit."""
    # A document made anew after it was erased must not come back with a version that someone still holds.
    first_version = time.time_ns() // 1000
    writes: Writes = defaultdict(list)
    outcomes: list[Outcome] = []
    for change in batch:
        outcome = _check(change, known)
        change.taken = outcome is None
        if outcome is None:
            _take(change, known, writes, first_version)
            outcome = COMMITTED
        outcomes.append(outcome)
    return outcomes, writes


def _write(connection: sqlite3.Connection, writes: Writes) -> bool:
    """Write rows; False when some were not written that are nobody else's by what is known."""
    whole = True
    for (table, tail), rows in writes.items():
        written = insert_rows(connection, table, rows, tail)
        if written != len(rows) and table in _OWN:
            whole = False
            break
    return whole


_OWN = frozenset(("profiles", "sessions", "events"))
"""Tables whose keys belong to one change; in the others a key that is there is left alone."""


def _check(change: Prepared, known: Known) -> Outcome | None:
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
        if there is not None and there[0] not in (row[2], change.instead.get(row[0])):
            return Taken(unpack_key(row[0]), there[0])
    for row in change.events:
        there = known.events.get(row[0])
        if there is not None:
            return COMMITTED if there[0] == change.id else CONFLICT
    return None


def _take(
    change: Prepared, known: Known, writes: dict[tuple[str, str], list[Values]], first_version: int
) -> None:
    """Note the rows of a change for writing, with their new versions."""
    if change.profile and change.profile_changed:
        key, _, *rest = change.profile
        there = known.profiles.get(key)
        version = there[0] + 1 if there else first_version
        change.profile = (key, version, *rest)
        hidden = change.profile[4]
        tail = _PROFILE if there is None or there[2] == hidden else _PROFILE_MERGED
        writes["profiles", tail].append(change.profile)
        known.profiles[key] = (version, change.id, hidden)
    if change.session and change.session_changed:
        key, _, *rest = change.session
        there = known.sessions.get(key)
        version = there[0] + 1 if there else first_version
        change.session = (key, version, *rest)
        now = (version, change.id, change.session[5], change.session[6])
        tail = _SESSION if there is None or there[2:] == now[2:] else _SESSION_MOVED
        writes["sessions", tail].append(change.session)
        known.sessions[key] = now
    for row in change.claims:
        there = known.claims.get(row[0])
        if there is None or there[0] != row[2]:
            writes["claims", _KEEP if there is None else _GIVEN_UP].append(row)
            known.claims[row[0]] = (row[2],)
    for row in change.events:
        known.events[row[0]] = (change.id,)
    if change.events:
        writes["events", _KEEP].extend(change.events)
    for table, rows in change.others:
        writes[table, _KEEP].extend(rows)
