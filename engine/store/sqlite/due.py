"""Leases on effects and timers."""

import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta

from headrace.engine.model import Doc, iso, new_id
from headrace.engine.store.encoding import decode_doc, due_at, encode_doc
from headrace.engine.store.protocol import DueKind, Leased
from headrace.engine.store.sqlite.rows import pack_key, unpack_key

_TABLES = {"effect": "effects", "timer": "timers"}


def anything_due(connection: sqlite3.Connection, kind: DueKind, now: datetime) -> bool:
    """Say whether a document waits for a worker, without taking the lock to write."""
    sql = f"SELECT 1 FROM {_TABLES[kind]} WHERE next <= ? LIMIT 1"  # noqa: S608 - a name of ours
    return connection.execute(sql, (iso(now),)).fetchone() is not None


def claiming(
    kind: DueKind, n: int, lease_seconds: float, now: datetime
) -> Callable[[sqlite3.Connection], list[Leased]]:
    """Return the job that leases up to `n` documents.

    `next` is the time at which a document may be taken: when it is due, or when the lease on it ends.
    """
    table = _TABLES[kind]
    lease, until = new_id(), iso(now + timedelta(seconds=lease_seconds))

    def job(connection: sqlite3.Connection) -> list[Leased]:
        rows = connection.execute(
            f"SELECT n, key, doc FROM {table} WHERE next <= ? ORDER BY next, n LIMIT ?",  # noqa: S608
            (iso(now), n),
        ).fetchall()
        for row in rows:
            connection.execute(f"UPDATE {table} SET next = ?, lease = ? WHERE n = ?", (until, lease, row[0]))  # noqa: S608
        return [Leased(unpack_key(key), decode_doc(doc), lease) for _, key, doc in rows]

    return job


def finishing(kind: DueKind, leased: Leased, doc: Doc, now: datetime) -> Callable[[sqlite3.Connection], bool]:
    """Return the job that writes what became of a document, if the lease on it is still the given one."""
    table = _TABLES[kind]
    status = doc.get("status")
    values = (
        *(encode_doc(doc), status if isinstance(status, str) else None, due_at(doc, iso(now))),
        *(pack_key(leased.key), leased.lease),
    )

    def job(connection: sqlite3.Connection) -> bool:
        sql = f"UPDATE {table} SET doc = ?, status = ?, next = ?, lease = NULL WHERE key = ? AND lease = ?"  # noqa: S608
        return connection.execute(sql, values).rowcount == 1

    return job
