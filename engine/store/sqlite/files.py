"""Opens the database file, checks it, and words what can go wrong."""

import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

from headrace.engine.errors import StoreRefused
from headrace.engine.store.sqlite.schema import check_owner, migrate

CHECK_SECONDS = 0.4
DAMAGED = "store-damaged"

_CODES = {
    sqlite3.SQLITE_FULL: "disk-full",
    sqlite3.SQLITE_BUSY: "store-locked",
    sqlite3.SQLITE_LOCKED: "store-locked",
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: DAMAGED,
    sqlite3.SQLITE_READONLY: "store-read-only",
    sqlite3.SQLITE_PERM: "store-read-only",
    sqlite3.SQLITE_CANTOPEN: "store-unreachable",
    sqlite3.SQLITE_IOERR: "store-failed",
    sqlite3.SQLITE_NOMEM: "out-of-memory",
}
"""SQLite's codes for faults of the file or the machine, which no single change can be blamed for."""

_WORDS = {
    "disk-full": "the disk, or its quota, is full. Free some space",
    "store-locked": "another process has locked it for too long. End that process's transaction",
    DAMAGED: "the file is damaged. Move it aside with its -wal and -shm files, and restore a backup",
    "store-read-only": "it cannot be written. Let the server's user write the file and its folder",
    "store-unreachable": "it cannot be opened. Look at the folder's permissions and the limit of open files",
    "store-failed": "reading or writing it failed. Look at the disk, its limits and the system's log",
    "out-of-memory": "there is no memory left. Give the server more",
    "file-gone": "the file was moved or deleted while it was open. Put it back, or restart the server",
}


def fault_code(error: BaseException) -> str:
    """Return a short code for a fault of the file or the machine; "" when one change may be to blame."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None and "not a database" in str(error):
        return DAMAGED
    # What SQLite itself cannot do is no fault of the values that it was given.
    unknown = "store-failed" if isinstance(error, sqlite3.OperationalError) else ""
    return unknown if code is None else _CODES.get(code & 0xFF, unknown)


def fault_text(path: str, code: str, error: BaseException | None = None) -> str:
    """Return what happened to the file, and what to do about it."""
    cause = f" ({error})" if error is not None else ""
    words = _WORDS.get(code)
    return (
        f"The database {path}: {words}{cause}." if words else f"The database {path} cannot take this{cause}."
    )


def connect(path: str, *, busy_seconds: float, cache_kib: int, read_only: bool = False) -> sqlite3.Connection:
    """Open a connection to a file that is there, whose memory and waiting are bounded; for one thread at a time."""
    connection = sqlite3.connect(
        # SQLite would make a file that was moved away anew, and delete the log that the other one needs.
        f"{Path(path).absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    for pragma in (
        "synchronous = FULL",
        f"cache_size = {-cache_kib}",
        "mmap_size = 0",
        "trusted_schema = OFF",
    ):
        connection.execute(f"PRAGMA {pragma}")
    if read_only:
        connection.execute("PRAGMA query_only = ON")
    return connection


def open_file(path: Path, busy_seconds: float, cache_kib: int) -> sqlite3.Connection:
    """Return the writing connection to a file that exists, is whole, is ours and has the newest tables.

    The folder and the file are made when missing. Raises StoreRefused, which says what to do.
    """
    _make_file(path)
    connection: sqlite3.Connection | None = None
    try:
        connection = connect(str(path), busy_seconds=busy_seconds, cache_kib=cache_kib)
        _set_up(connection, path)
    except (sqlite3.Error, StoreRefused) as error:
        if connection is not None:
            connection.close()
        if isinstance(error, StoreRefused):
            raise
        raise _refused(path, error) from error
    return connection


def file_id(path: str) -> tuple[int, int]:
    """Return what tells a file from another one at the same place; (0, 0) when there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - called for every commit
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino


def _make_file(path: Path) -> None:
    """Make the folder and the file, for the server's user alone, if they are not there.

    One that is there is not opened, not even to read its first bytes: who closes a file loses all locks of it (POSIX),
    those of another store in this process too.
    """
    log = path.with_name(f"{path.name}-wal")
    if not path.exists() and log.exists() and log.stat().st_size:
        # SQLite deletes the log of an empty file.
        raise StoreRefused(
            f"{path} is not there, but its log is: {log}. Put the file back beside it, or, if it is lost, "
            "move the log away."
        )
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except OSError as error:
        msg = (
            f"The database {path} cannot be made or opened: {error.strerror}. Let the server's user write "
            f"{path.parent}, or name another place: HEADRACE_DATA=DIR, HEADRACE_STORE=sqlite:/path/to/file.db"
        )
        raise StoreRefused(msg) from error


def _refused(path: Path, error: sqlite3.Error) -> StoreRefused:
    """Return why a file cannot be opened, and what to do."""
    if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_NOTADB:
        return StoreRefused(fault_text(str(path), fault_code(error), error))
    return StoreRefused(
        f"{path} is not a SQLite database, or its beginning is damaged. Restore a backup, "
        "or name another file: HEADRACE_STORE=sqlite:/path/to/file.db"
    )


def _set_up(connection: sqlite3.Connection, path: Path) -> None:
    """Check the file, turn on the write-ahead log, and migrate."""
    check_owner(connection, str(path))
    _check_whole(connection, path)
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        msg = (
            f"The database {path} cannot use a write-ahead log here (the journal stays {mode!r}). "
            "Put it on a local disk, not on a network share."
        )
        raise StoreRefused(msg)
    connection.execute(f"PRAGMA journal_size_limit = {64 << 20}")
    # What is erased for good must not stay in free pages.
    connection.execute("PRAGMA secure_delete = ON")
    migrate(connection, str(path))


def _check_whole(connection: sqlite3.Connection, path: Path) -> None:
    """Look for damage, for a bounded time; a large file may keep some unseen."""
    deadline = time.monotonic() + CHECK_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > deadline, 20_000)
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_INTERRUPT:
            raise
        found = "ok"
    finally:
        connection.set_progress_handler(None, 0)
    wal = path.with_name(path.name + "-wal")
    pages, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    # While the log holds pages, the file itself may well be shorter.
    if found == "ok" and not (wal.exists() and wal.stat().st_size) and path.stat().st_size < pages * size:
        found = "it is shorter than it says"
    if found != "ok":
        raise StoreRefused(fault_text(str(path), DAMAGED, sqlite3.DatabaseError(found)))
