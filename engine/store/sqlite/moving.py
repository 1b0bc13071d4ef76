"""Carries everything out of, and into, the embedded store."""

import asyncio
import json
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, TypeVar

from headrace.engine.errors import StoreError
from headrace.engine.model import Doc, iso_now
from headrace.engine.store.encoding import decode_doc
from headrace.engine.store.moving import MOVED, Batch, Kept, MovedKind
from headrace.engine.store.protocol import Change, Claim, Row, Write
from headrace.engine.store.sqlite.apply import insert_sql, parts, select_sql
from headrace.engine.store.sqlite.files import fault_code, fault_text, open_file
from headrace.engine.store.sqlite.rows import (
    COLUMNS,
    Values,
    listed_rows,
    pack_key,
    prepare,
    unpack_key,
    workflow_values,
)

T = TypeVar("T")

COPIED = "copied"
"""Stands as the change of what was copied, until a server writes it."""

NOTE = "copy"
MOST_BYTES = 8 << 20
"""Of the documents in one batch; a larger document comes alone."""

CACHE_KIB = 16_384


class _Place(NamedTuple):
    """Where a kind is kept: its table, which rows, the columns of its fields, what is written over."""

    table: str
    which: str
    fields: tuple[str, ...]
    over: str = ""


def _over(columns: str, condition: str) -> str:
    sets = ", ".join(f"{name} = excluded.{name}" for name in columns.split())
    return f"DO UPDATE SET {sets} WHERE {condition}"


def _versioned(table: str, columns: str) -> str:
    """Return what becomes of a profile or session that differs and that no server wrote."""
    over = _over(columns, f"{table}.change = '{COPIED}' AND {table}.doc IS NOT excluded.doc")
    return over.replace("DO UPDATE SET", f"DO UPDATE SET version = {table}.version + 1,")


_EVENT = _over(
    "type source profile session received happened content id doc",
    f"events.change = '{COPIED}' AND (events.doc IS NOT excluded.doc OR events.profile IS NOT excluded.profile)",
)


def _due(table: str) -> str:
    """Return what becomes of an effect or timer: what was done here is never to be done again."""
    condition = f"{table}.next IS NOT NULL AND {table}.lease IS NULL AND {table}.doc IS NOT excluded.doc"
    return _over("type source profile session event status next doc", condition)


_PLACES: dict[MovedKind, _Place] = {
    "workflow": _Place("workflows", "1", ("created",)),
    "profile": _Place("profiles", "1", ("created", "updated"), _versioned("profiles", "hidden updated doc")),
    "session": _Place(
        *("sessions", "1", ("created", "updated")),
        _versioned("sessions", "source profile hidden updated doc"),
    ),
    "claim": _Place(
        *("claims", "1", ("profile",)),
        _over("profile doc", "claims.profile IS NOT excluded.profile OR claims.doc IS NOT excluded.doc"),
    ),
    "mark": _Place("events", "type IS NULL", ("received", "profile", "session", "content", "id"), _EVENT),
    "event": _Place("events", "type IS NOT NULL", ("received",), _EVENT),
    "failed": _Place("failed", "1", ("created", "profile")),
    "effect": _Place("effects", "1", ("created", "profile", "next"), _due("effects")),
    "timer": _Place("timers", "1", ("created", "profile", "next"), _due("timers")),
    "trace": _Place("traces", "1", ("created", "profile")),
}


class SqliteMoving:
    """The embedded store as a copy sees it, over a connection of its own. A server may have the file open too."""

    def __init__(self, path: Path, busy_seconds: float) -> None:
        self._path = str(path)
        self._connection = open_file(path, busy_seconds, CACHE_KIB)

    def shown(self) -> str:
        """Name the file."""
        return self._path

    async def settle(self) -> None:
        """Do nothing: a transaction leaves nothing half done."""

    async def tally(self) -> dict[MovedKind, int]:
        """Count every kind."""
        return await self._run(count_kinds)

    async def dump(self, kind: MovedKind, after: str | None, n: int) -> Batch:
        """Return about `n` documents behind a place, which is the number of a row."""
        return await self._run(lambda connection: _dump(connection, kind, int(after or 0), n))

    async def load(self, kind: MovedKind, rows: Sequence[Kept], *, replace: bool) -> int:
        """Write documents in one transaction; returns how many were written."""
        return await self._run(lambda connection: _load(connection, kind, rows, replace=replace), write=True)

    async def pick(self, kind: MovedKind, keys: Sequence[str]) -> list[Kept]:
        """Return what stands under some keys."""
        return await self._run(lambda connection: _pick(connection, kind, keys))

    async def sample(self, kind: MovedKind, n: int) -> list[Kept]:
        """Return `n` documents by chance."""
        return await self._run(lambda connection: _sample(connection, kind, n))

    async def note(self) -> Doc | None:
        """Return the note of a copy."""
        sql = "SELECT value FROM about WHERE name = ?"
        row = await self._run(lambda connection: connection.execute(sql, (NOTE,)).fetchone())
        return decode_doc(row[0]) if row else None

    async def keep_note(self, note: Doc) -> None:
        """Keep a note of a copy."""
        sql = "INSERT OR REPLACE INTO about (name, value) VALUES (?, ?)"
        values = (NOTE, json.dumps(note).encode())
        await self._run(lambda connection: connection.execute(sql, values), write=True)

    async def close(self) -> None:
        """Close the connection."""
        await asyncio.to_thread(self._connection.close)

    async def _run(self, job: Callable[[sqlite3.Connection], T], *, write: bool = False) -> T:
        """Run a job in a thread, a writing one in a transaction. Raises StoreError."""
        try:
            return await asyncio.to_thread(self._transact if write else self._read, job)
        except sqlite3.Error as error:
            raise StoreError(fault_text(self._path, fault_code(error), error)) from error

    def _read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        return job(self._connection)

    def _transact(self, job: Callable[[sqlite3.Connection], T]) -> T:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            done = job(self._connection)
            self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        return done


def count_kinds(connection: sqlite3.Connection) -> dict[MovedKind, int]:
    """Return how many documents of each kind there are."""
    counts: dict[MovedKind, int] = {}
    for kind in MOVED:
        place = _PLACES[kind]
        sql = f"SELECT count(*) FROM {place.table} WHERE {place.which}"  # noqa: S608 - names of ours
        counts[kind] = connection.execute(sql).fetchone()[0]
    return counts


def _columns(place: _Place) -> str:
    return f"tenant, doc, {', '.join(place.fields)}"


def _kept(place: _Place, row: Values) -> Kept:
    key, tenant, doc, *fields = row
    return Kept(unpack_key(key), tenant, doc, dict(zip(place.fields, fields, strict=True)))


def _dump(connection: sqlite3.Connection, kind: MovedKind, after: int, n: int) -> Batch:
    place = _PLACES[kind]
    sql = (
        f"SELECT n, key, {_columns(place)} FROM {place.table} NOT INDEXED"  # noqa: S608 - names of ours
        f" WHERE n > ? AND {place.which} ORDER BY n LIMIT ?"
    )
    rows: list[Kept] = []
    size = 0
    with closing(connection.cursor()) as cursor:
        for number, *row in cursor.execute(sql, (after, n)):
            rows.append(_kept(place, tuple(row)))
            after = number
            size += len(rows[-1].doc or b"")
            if size > MOST_BYTES:
                return Batch(rows, str(after))
    return Batch(rows, str(after) if len(rows) == n else None)


def _pick(connection: sqlite3.Connection, kind: MovedKind, keys: Sequence[str]) -> list[Kept]:
    place = _PLACES[kind]
    found: list[Kept] = []
    for piece in parts([pack_key(key) for key in keys]):
        sql = f"{select_sql(place.table, _columns(place), len(piece))} AND {place.which}"
        found += [_kept(place, row) for row in connection.execute(sql, piece)]
    return found


def _sample(connection: sqlite3.Connection, kind: MovedKind, n: int) -> list[Kept]:
    place = _PLACES[kind]
    numbers = f"SELECT n FROM {place.table} WHERE {place.which} ORDER BY random() LIMIT ?"  # noqa: S608
    sql = f"SELECT key, {_columns(place)} FROM {place.table} WHERE n IN ({numbers})"  # noqa: S608
    return [_kept(place, row) for row in connection.execute(sql, (n,))]


def _load(connection: sqlite3.Connection, kind: MovedKind, rows: Sequence[Kept], *, replace: bool) -> int:
    place = _PLACES[kind]
    tail = f"ON CONFLICT (key) {place.over if replace and place.over else 'DO NOTHING'}"
    written = 0
    for piece in parts(_values(kind, place, rows)):
        flat = [value for values in piece for value in values]
        written += connection.execute(insert_sql(place.table, len(piece), tail), flat).rowcount
    return written


def _values(kind: MovedKind, place: _Place, rows: Sequence[Kept]) -> list[Values]:
    """Return documents as rows of their table: as a commit makes them, with what was kept beside them."""
    of_tenant: dict[str, list[Kept]] = defaultdict(list)
    for row in rows:
        of_tenant[row.tenant].append(row)
    columns = COLUMNS[place.table]
    made: list[Values] = []
    # As a commit does it: a version that nobody has at hand.
    version = time.time_ns() // 1000
    for tenant, some in of_tenant.items():
        for kept, usual in zip(some, _usual(kind, place.table, tenant, some), strict=True):
            values = dict(zip(columns, usual, strict=True)) | kept.fields | {"doc": kept.doc}
            if "version" in values:
                values["version"] = version
            made.append(tuple(values[name] for name in columns))
    return made


def _usual(kind: MovedKind, table: str, tenant: str, rows: Sequence[Kept]) -> list[Values]:
    """Return the rows that a commit would make of documents of one tenant."""
    docs = [Row(row.key, row.fields if row.doc is None else decode_doc(row.doc)) for row in rows]
    if table in ("failed", "effects", "timers", "traces"):
        return listed_rows(docs, table, tenant, None, iso_now())
    if kind == "workflow":
        return [workflow_values(row, tenant, iso_now()) for row in docs]
    if kind == "profile":
        writes = [Write(row.key, row.doc, None) for row in docs]
        return [prepare(Change(COPIED, tenant, profile=one)).profile or () for one in writes]
    if kind == "session":
        writes = [Write(row.key, row.doc, None) for row in docs]
        return [prepare(Change(COPIED, tenant, session=one)).session or () for one in writes]
    change = Change(COPIED, tenant)
    if kind == "claim":
        change.claims = [Claim(row.key, row.fields["profile"] or "") for row in rows]
        return prepare(change).claims
    setattr(change, f"{kind}s", docs)
    return prepare(change).events
