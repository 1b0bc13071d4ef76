"""The tables of the embedded store, and the steps that bring a file to them."""

import sqlite3
from collections.abc import Sequence

from headrace.engine.errors import StoreRefused

APPLICATION_ID = 0x48445243
"""Marks a SQLite file as ours; it stands in the file's header."""

Step = tuple[str, ...]


def _listed(table: str, due: bool) -> Step:
    """Return the statements for a table of documents that are only added and listed."""
    made = (
        f"CREATE TABLE {table} (n INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, tenant TEXT NOT NULL, type TEXT,"
        " source TEXT, profile TEXT, session TEXT, event TEXT, status TEXT, created TEXT NOT NULL, next TEXT,"
        " lease TEXT, doc BLOB NOT NULL)",
        f"CREATE INDEX {table}_listed ON {table} (tenant, created)",
        f"CREATE INDEX {table}_by_event ON {table} (event) WHERE event IS NOT NULL",
        f"CREATE INDEX {table}_by_profile ON {table} (tenant, profile) WHERE profile IS NOT NULL",
    )
    return (*made, f"CREATE INDEX {table}_due ON {table} (next) WHERE next IS NOT NULL") if due else made


STEPS: tuple[Step, ...] = (
    (
        "CREATE TABLE about (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID",
        "CREATE TABLE profiles (n INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, version INTEGER NOT NULL,"
        " change BLOB NOT NULL, tenant TEXT NOT NULL, created TEXT NOT NULL, updated TEXT NOT NULL,"
        " doc BLOB NOT NULL)",
        "CREATE INDEX profiles_listed ON profiles (tenant, created)",
        "CREATE TABLE sessions (n INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, version INTEGER NOT NULL,"
        " change BLOB NOT NULL, tenant TEXT NOT NULL, source TEXT, profile TEXT, hidden INTEGER NOT NULL,"
        " created TEXT NOT NULL, updated TEXT NOT NULL, doc BLOB NOT NULL)",
        "CREATE INDEX sessions_listed ON sessions (tenant, created)",
        "CREATE INDEX sessions_by_profile ON sessions (tenant, profile) WHERE profile IS NOT NULL",
        "CREATE TABLE claims (n INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, tenant TEXT NOT NULL,"
        " profile TEXT NOT NULL, doc BLOB NOT NULL)",
        "CREATE INDEX claims_by_profile ON claims (tenant, profile)",
        # Events and marks share a table, so that one unique index knows every key. A mark has no type.
        "CREATE TABLE events (n INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, change BLOB NOT NULL,"
        " tenant TEXT NOT NULL, type TEXT, source TEXT, profile TEXT, session TEXT, received TEXT NOT NULL,"
        " happened TEXT, content TEXT, id TEXT, doc BLOB)",
        # For lists and reports of a tenant: it covers them, so they touch no row.
        "CREATE INDEX events_listed ON events (tenant, received, type, source, profile)",
        # For a profile's list, its newest event of a type, and its counts since a time.
        "CREATE INDEX events_by_profile ON events (profile, tenant, type, received, happened)"
        " WHERE profile IS NOT NULL",
        "CREATE INDEX events_by_session ON events (session) WHERE session IS NOT NULL",
        *_listed("failed", due=False),
        *_listed("effects", due=True),
        *_listed("timers", due=True),
        *_listed("traces", due=False),
    ),
)
"""Step i brings a file from version i to i + 1; a step that was released never changes."""


def file_version(connection: sqlite3.Connection) -> int:
    """Return the version of the file's tables; 0 for an empty file."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check_owner(connection: sqlite3.Connection, path: str, newest: int = len(STEPS)) -> None:
    """Raise StoreRefused for a file that another program made, or a newer Headrace."""
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if owner != APPLICATION_ID and (owner or tables):
        msg = (
            f"{path} is a SQLite file of another program, so Headrace does not touch it. "
            "Name another file: HEADRACE_STORE=sqlite:/path/to/file.db"
        )
        raise StoreRefused(msg)
    version = file_version(connection)
    if version > newest:
        msg = (
            f"{path} was written by a newer Headrace (its tables have version {version}, this one knows {newest}). "
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
