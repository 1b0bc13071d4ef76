"""Reads documents by id, on the event loop's own connection."""

import sqlite3
from collections.abc import Sequence

from headrace.engine.store.encoding import decode_doc
from headrace.engine.store.protocol import Ref, Stored
from headrace.engine.store.sqlite.apply import select_by_key
from headrace.engine.store.sqlite.recent import Recent
from headrace.engine.store.sqlite.rows import Key, pack_key

_NO_VERSION = (0, 0)


def read_refs(
    connection: sqlite3.Connection, refs: Sequence[Ref], recent: Recent | None
) -> list[Stored | None]:
    """Return each document as it is now, or as `recent` has it, or None. Raises sqlite3.Error."""
    if recent is None:
        return _read_now(connection, refs)
    found = [None if kind == "seen" else recent.get(kind, pack_key(name)) for kind, name in refs]
    left = [place for place, one in enumerate(found) if one is None]
    if left:
        for place, one in zip(left, _read_now(connection, [refs[place] for place in left]), strict=True):
            found[place] = one
    return found


def _read_now(connection: sqlite3.Connection, refs: Sequence[Ref]) -> list[Stored | None]:
    if len(refs) < 3:
        return _read(connection, refs)
    # One transaction: the file's lock for readers is taken once.
    connection.execute("BEGIN")
    try:
        return _read(connection, refs)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _read(connection: sqlite3.Connection, refs: Sequence[Ref]) -> list[Stored | None]:
    keys = [pack_key(name) for _, name in refs]
    seen = [key for (kind, _), key in zip(refs, keys, strict=True) if kind == "seen"]
    if len(seen) < 3:
        return [_READ[kind](connection, key) for (kind, _), key in zip(refs, keys, strict=True)]
    many = {row[0]: row[1:] for row in select_by_key(connection, "events", "profile, content, id", seen)}
    # Two who ask for the same get a document each, for they may change it.
    return [
        (_seen(*many[key]) if key in many else None) if kind == "seen" else _READ[kind](connection, key)
        for (kind, _), key in zip(refs, keys, strict=True)
    ]


def _profile(connection: sqlite3.Connection, key: Key) -> Stored | None:
    row = connection.execute("SELECT version, doc FROM profiles WHERE key = ?", (key,)).fetchone()
    return Stored(decode_doc(row[1]), (row[0], 0)) if row else None


def _session(connection: sqlite3.Connection, key: Key) -> Stored | None:
    row = connection.execute("SELECT version, doc FROM sessions WHERE key = ?", (key,)).fetchone()
    return Stored(decode_doc(row[1]), (row[0], 0)) if row else None


def _one_seen(connection: sqlite3.Connection, key: Key) -> Stored | None:
    row = connection.execute("SELECT profile, content, id FROM events WHERE key = ?", (key,)).fetchone()
    return _seen(*row) if row else None


def _claim(connection: sqlite3.Connection, key: Key) -> Stored | None:
    row = connection.execute("SELECT profile, doc FROM claims WHERE key = ?", (key,)).fetchone()
    return Stored({**decode_doc(row[1]), "profile": row[0]}, _NO_VERSION) if row else None


def _workflow(connection: sqlite3.Connection, key: Key) -> Stored | None:
    row = connection.execute("SELECT doc FROM workflows WHERE key = ?", (key,)).fetchone()
    return Stored(decode_doc(row[0]), _NO_VERSION) if row else None


def _seen(profile: str | None, content: str | None, client_id: str | None) -> Stored:
    return Stored({"profile": profile, "content": content, "id": client_id}, _NO_VERSION)


_READ = {
    "profile": _profile,
    "session": _session,
    "seen": _one_seen,
    "claim": _claim,
    "workflow": _workflow,
}
