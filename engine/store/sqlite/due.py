"""Leases on effects and timers, and changes of single documents."""

import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from headrace.engine.model import Doc, iso, new_id
from headrace.engine.store.encoding import decode_doc, due_at, encode_doc, text_or_none
from headrace.engine.store.protocol import MOST_COUNTED, OLDEST, AmendKind, DueKind, Leased, Waiting
from headrace.engine.store.sqlite.rows import pack_key, unpack_key

_TABLES: dict[AmendKind, str] = {"effect": "effects", "timer": "timers", "failed": "failed"}


def anything_due(connection: sqlite3.Connection, kind: DueKind, now: datetime) -> bool:
    """Say whether a document waits for a worker, without taking the lock to write."""
    sql = f"SELECT 1 FROM {_TABLES[kind]} WHERE next <= ? LIMIT 1"  # noqa: S608 - a name of ours
    return connection.execute(sql, (iso(now),)).fetchone() is not None


def claiming(
    kind: DueKind, n: int, lease_seconds: float, now: datetime, *, newest: bool = False
) -> Callable[[sqlite3.Connection], list[Leased]]:
    """Return the job that leases up to `n` documents.

    `next` is the time at which a document may be taken: when it is due, or when the lease on it ends.
    """
    table = _TABLES[kind]
    lease, until = new_id(), iso(now + timedelta(seconds=lease_seconds))

    def job(connection: sqlite3.Connection) -> list[Leased]:
        order = "next DESC, n DESC" if newest else "next, n"
        due = f"FROM {table} WHERE next <= ? ORDER BY {order} LIMIT ?"
        rows = connection.execute(f"SELECT key, doc {due}", (iso(now), n)).fetchall()
        # In the same transaction these are the same rows.
        sql = f"UPDATE {table} SET next = ?, lease = ? WHERE n IN (SELECT n {due})"  # noqa: S608
        connection.execute(sql, (until, lease, iso(now), n))
        return [Leased(unpack_key(key), decode_doc(doc), lease) for key, doc in rows]

    return job


def finishing(
    kind: DueKind, done: Sequence[tuple[Leased, Doc]], now: datetime
) -> Callable[[sqlite3.Connection], list[bool]]:
    """Return the job that writes what became of documents, where the lease on it is still the given one."""
    values = [(*_columns(doc, iso(now)), pack_key(leased.key), leased.lease) for leased, doc in done]
    sql = f"UPDATE {_TABLES[kind]} SET {_COLUMNS} WHERE key = ? AND lease = ?"  # noqa: S608 - names of ours

    def job(connection: sqlite3.Connection) -> list[bool]:
        return [connection.execute(sql, row).rowcount == 1 for row in values]

    return job


def amending(
    kind: AmendKind, key: str, change: Callable[[Doc], Doc | None], now: datetime
) -> Callable[[sqlite3.Connection], Doc | None]:
    """Return the job that changes one document as it is now."""
    table, packed = _TABLES[kind], pack_key(key)

    def job(connection: sqlite3.Connection) -> Doc | None:
        row = connection.execute(f"SELECT doc FROM {table} WHERE key = ?", (packed,)).fetchone()  # noqa: S608
        doc = change(decode_doc(row[0])) if row else None
        if doc is not None:
            sql = f"UPDATE {table} SET {_COLUMNS} WHERE key = ?"  # noqa: S608
            content, status, due = _columns(doc, iso(now))
            connection.execute(sql, (content, status, None if kind == "failed" else due, packed))
        return doc

    return job


def count_waiting(connection: sqlite3.Connection, kind: DueKind) -> Waiting:
    """Count what is pending, and find since when the oldest of it is there, or due."""
    column = OLDEST[kind]
    pending = f"SELECT {column} FROM {_TABLES[kind]} WHERE next IS NOT NULL LIMIT {MOST_COUNTED}"  # noqa: S608
    return Waiting(*connection.execute(f"SELECT count(*), min({column}) FROM ({pending})").fetchone())  # noqa: S608


_COLUMNS = "doc = ?, status = ?, next = ?, lease = NULL"


def _columns(doc: Doc, now: str) -> tuple[bytes, str | None, str | None]:
    """Return the values of `_COLUMNS`."""
    return encode_doc(doc), text_or_none(doc.get("status")), due_at(doc, now)
