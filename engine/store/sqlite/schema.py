"""The tables of the embedded store, and the steps to them."""

import sqlite3
from collections.abc import Sequence

from headrace.engine.errors import StoreRefused

APPLICATION_ID = 0x48445243
"""Marks a SQLite file as ours; it stands in the file's header."""

Step = tuple[str, ...]


def _table(name: str, *columns: str) -> str:
    """Return a table with a number for its rows and a unique key.

    A unique index beside a table with row numbers is cheaper to write than a table ordered by its key.
    """
    return (
        f"CREATE TABLE {name} ({', '.join(('n INTEGER PRIMARY KEY', 'key BLOB NOT NULL UNIQUE', *columns))})"
    )


def _index(table: str, name: str, columns: str) -> str:
    """Return an index over all rows."""
    return f"CREATE INDEX {table}_{name} ON {table} ({columns})"


def _present(table: str, name: str, columns: str, column: str) -> str:
    """Return an index over the rows that have a value in a column."""
    return f"{_index(table, name, columns)} WHERE {column} IS NOT NULL"


_VERSIONED = ("version INTEGER NOT NULL", "change BLOB NOT NULL", "tenant TEXT NOT NULL")
_TIMES = ("created TEXT NOT NULL", "updated TEXT NOT NULL")
_DOC = "doc BLOB NOT NULL"


def _listed(table: str) -> Step:
    """Return the statements for a table of documents that are added, listed, and perhaps due at a time."""
    texts = ("type TEXT", "source TEXT", "profile TEXT", "session TEXT", "event TEXT", "status TEXT")
    return (
        _table(
            table, "tenant TEXT NOT NULL", *texts, "created TEXT NOT NULL", "next TEXT", "lease TEXT", _DOC
        ),
        _index(table, "listed", "tenant, created"),
        _present(table, "by_event", "event", "event"),
        _present(table, "by_profile", "tenant, profile", "profile"),
        _present(table, "due", "next", "next"),
    )


STEPS: tuple[Step, ...] = (
    (
        "CREATE TABLE about (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID",
        _table("profiles", *_VERSIONED, *_TIMES, _DOC),
        _index("profiles", "listed", "tenant, created"),
        _table(
            "sessions", *_VERSIONED, "source TEXT", "profile TEXT", "hidden INTEGER NOT NULL", *_TIMES, _DOC
        ),
        _index("sessions", "listed", "tenant, created"),
        _present("sessions", "by_profile", "tenant, profile", "profile"),
        _table("claims", "tenant TEXT NOT NULL", "profile TEXT NOT NULL", _DOC),
        _index("claims", "by_profile", "tenant, profile"),
        # Events and marks share a table, so that one unique index knows every key. A mark has no type.
        _table(
            "events",
            *("change BLOB NOT NULL", "tenant TEXT NOT NULL", "type TEXT", "source TEXT", "profile TEXT"),
            *(
                "session TEXT",
                "received TEXT NOT NULL",
                "happened TEXT",
                "content TEXT",
                "id TEXT",
                "doc BLOB",
            ),
        ),
        # For lists and reports of a tenant: it covers them, so they touch no row.
        _index("events", "listed", "tenant, received, type, source, profile"),
        # For a profile's list, its newest event of a type, and its counts since a time.
        _present("events", "by_profile", "profile, tenant, type, received, happened", "profile"),
        _present("events", "by_session", "session", "session"),
        *_listed("failed"),
        *_listed("effects"),
        *_listed("timers"),
        *_listed("traces"),
    ),
    # Versions of workflows that runs began in and still wait in.
    (_table("workflows", "tenant TEXT NOT NULL", "created TEXT NOT NULL", _DOC),),
    # Profiles that were merged are not found; the index tells, so that no row is read for it.
    (
        "ALTER TABLE profiles ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0",
        "DROP INDEX profiles_listed",
        _index("profiles", "listed", "tenant, created, hidden"),
    ),
)
"""Step i brings a file from version i to i + 1; a step that was released never changes."""


def file_version(connection: sqlite3.Connection) -> int:
    """Return the version of the file's tables; 0 for an empty file."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check_owner(connection: sqlite3.Connection, path: str, newest: int = len(STEPS)) -> None:
    """Raise StoreRefused for a file that another program made, or a newer Headrace."""
    # One statement, since another process may be making the tables just now.
    owner, tables = connection.execute(
        "SELECT (SELECT application_id FROM pragma_application_id), (SELECT count(*) FROM sqlite_schema)"
    ).fetchone()
    if owner != APPLICATION_ID and (owner or tables):
        msg = (
            f"{path} is a SQLite file of another program, so Headrace does not touch it. "
            "Name another file: HEADRACE_STORE=sqlite:/path/to/file.db"
        )
        raise StoreRefused(msg)
    version = file_version(connection)
    if version > newest:
        msg = (
            f"{path} was written by a newer Headrace: its tables have version {version}, not {newest}. "
            "Install that version again, or restore a backup that this one made."
        )
        raise StoreRefused(msg)


def migrate(connection: sqlite3.Connection, path: str, steps: Sequence[Step] = STEPS) -> int:
    """Bring the file to the newest version, all in one transaction; returns how many steps were taken."""
    if file_version(connection) == len(steps):
        return 0
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have done it while this one waited for the lock.
        check_owner(connection, path, len(steps))
        before = file_version(connection)
        for step in steps[before:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return len(steps) - before
