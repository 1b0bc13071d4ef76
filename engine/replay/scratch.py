"""A place for what a replay must remember, outside of its memory."""

import sqlite3
from collections.abc import Iterator

import msgspec

from headrace.engine.model import Doc
from headrace.engine.strict_json import reader

CACHE_KIB = 16_384

_encode = msgspec.json.Encoder().encode
_decode = reader(Doc)


class Scratch:
    """The events of a replay, and the documents that it changed: a file of the system that goes when it is closed.

    A replay may be of more events, and change more profiles, than there is memory for.
    """

    def __init__(self) -> None:
        # No name: SQLite makes a file of its own once its cache is full, and nobody else can see it.
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for statement in (
            f"PRAGMA cache_size = {-CACHE_KIB}",
            "PRAGMA journal_mode = OFF",
            "CREATE TABLE events (n INTEGER PRIMARY KEY, doc BLOB NOT NULL)",
            "CREATE TABLE docs (kind TEXT, key TEXT, doc BLOB NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID",
        ):
            self._connection.execute(statement)

    def push(self, docs: list[Doc]) -> None:
        """Keep events, each older than the one before."""
        rows = [(_encode(doc),) for doc in docs]
        self._connection.executemany("INSERT INTO events (doc) VALUES (?)", rows)

    def oldest_first(self) -> Iterator[Doc]:
        """Yield the events, from the last one that was pushed to the first."""
        place: int | None = None
        while True:
            where = "" if place is None else f" WHERE n < {place}"
            sql = f"SELECT n, doc FROM events{where} ORDER BY n DESC LIMIT 50"  # noqa: S608 - a number of ours
            rows = self._connection.execute(sql).fetchall()
            if not rows:
                return
            for place, doc in rows:  # noqa: B007 - the last one is where the next part begins
                yield _decode(doc)

    def put(self, kind: str, key: str, doc: Doc) -> None:
        """Keep a document as it is now."""
        self._connection.execute("INSERT OR REPLACE INTO docs VALUES (?, ?, ?)", (kind, key, _encode(doc)))

    def get(self, kind: str, key: str) -> Doc | None:
        """Return a document of its own, or None."""
        row = self._connection.execute(
            "SELECT doc FROM docs WHERE kind = ? AND key = ?", (kind, key)
        ).fetchone()
        return None if row is None else _decode(row[0])

    def close(self) -> None:
        """Drop everything."""
        self._connection.close()
