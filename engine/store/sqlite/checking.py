"""Looks at the embedded store: file, tables, damage, room, counts."""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path

from headrace.engine.errors import StoreRefused
from headrace.engine.model import iso_now
from headrace.engine.store.finding import Finding
from headrace.engine.store.sqlite.files import connect, fault_code, fault_text, open_file
from headrace.engine.store.sqlite.moving import count_kinds
from headrace.engine.store.sqlite.schema import STEPS, check_owner, file_version

LARGE_LOG = 256 << 20
"""Bytes; a log that is larger was not moved into the file for long, since somebody reads an old state."""

LEAST_FREE = 256 << 20
SOON_FREE = 2 << 30
"""Bytes on the disk: below the first there is a problem, below the second there may be one soon."""

BUSY_SECONDS = 2.0
CACHE_KIB = 16_384

Look = Callable[[sqlite3.Connection, Path], Iterator[Finding]]


async def check_file(path: Path, *, thorough: bool) -> AsyncIterator[Finding]:
    """Yield what is found about a file, which a server may have open."""
    if away := _away(path):
        yield Finding("away", "file", away)
        return
    looks: tuple[Look, ...] = (
        _file,
        _version,
        _drift,
        _log,
        _room,
        _locks,
        _counts,
        _full if thorough else _quick,
    )
    try:
        with closing(
            connect(str(path), busy_seconds=BUSY_SECONDS, cache_kib=CACHE_KIB, read_only=True)
        ) as connection:
            check_owner(connection, str(path))
            for look in looks:
                for finding in await asyncio.to_thread(_all, look, connection, path):
                    yield finding
    except StoreRefused as error:
        yield Finding("problem", "file", str(error))
    except sqlite3.Error as error:
        yield Finding("problem", "file", fault_text(str(path), fault_code(error), error))


def _all(look: Look, connection: sqlite3.Connection, path: Path) -> list[Finding]:
    return list(look(connection, path))


def _away(path: Path) -> str:
    """Return why a file cannot be looked at, or ""."""
    if not path.is_file():
        return f"There is no database {path}. The first start of a server makes it."
    if not os.access(path, os.R_OK | os.W_OK):
        return f"{path} cannot be read and written by this user."
    return ""


def _file(_connection: sqlite3.Connection, path: Path) -> Iterator[Finding]:
    size = path.stat().st_size / (1 << 20)
    yield Finding("fine", "file", f"{path}, {size:,.1f} MiB, SQLite {sqlite3.sqlite_version}")


def _version(connection: sqlite3.Connection, _path: Path) -> Iterator[Finding]:
    version = file_version(connection)
    if version == len(STEPS):
        yield Finding("fine", "version", f"The tables have version {version}, as this program.")
    else:
        text = (
            f"The tables have version {version}, this program {len(STEPS)}: the next start of a server, or "
        )
        yield Finding("note", "version", f"{text}`headrace store migrate`, brings them to it.")


def _drift(connection: sqlite3.Connection, _path: Path) -> Iterator[Finding]:
    """Compare tables and indices with those that this version makes."""
    sql = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
    there = dict(connection.execute(sql))
    with closing(sqlite3.connect(":memory:")) as fresh:
        for step in STEPS[: file_version(connection)]:
            for statement in step:
                fresh.execute(statement)
        ours = dict(fresh.execute(sql))
    odd = [f"{name} is missing" for name in ours.keys() - there.keys()]
    odd += [f"{name} is not ours" for name in there.keys() - ours.keys() if not name.startswith("sqlite_")]
    odd += [f"{name} differs" for name in ours.keys() & there.keys() if ours[name] != there[name]]
    if odd:
        yield Finding("problem", "tables", f"Somebody changed the tables: {', '.join(sorted(odd))}.")
    else:
        yield Finding("fine", "tables", f"{len(ours)} tables and indices are as this version makes them.")


def _log(connection: sqlite3.Connection, path: Path) -> Iterator[Finding]:
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    if mode != "wal":
        yield Finding(
            "problem", "log", f"The journal is {mode!r}, not a write-ahead log: restart the server."
        )
        return
    file = path.with_name(path.name + "-wal")
    size = file.stat().st_size if file.exists() else 0
    text = f"The write-ahead log has {size / (1 << 20):,.1f} MiB"
    if size > LARGE_LOG:
        yield Finding(
            "note", "log", f"{text}: something reads the file without end, a backup perhaps. End it."
        )
    else:
        yield Finding("fine", "log", f"{text}.")


def _room(connection: sqlite3.Connection, path: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(path.parent).free
    unused, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_size")
    )
    text = f"{free / (1 << 30):,.1f} GiB are free on the disk, {unused * size / (1 << 20):,.1f} MiB within the file"
    if free < LEAST_FREE:
        yield Finding("problem", "disk", f"{text}: free some space, or writes will fail.")
    elif free < SOON_FREE:
        yield Finding("note", "disk", f"{text}: free some space soon.")
    else:
        yield Finding("fine", "disk", f"{text}.")


def _locks(_connection: sqlite3.Connection, path: Path) -> Iterator[Finding]:
    """Take the lock for writing, and give it back."""
    with closing(connect(str(path), busy_seconds=BUSY_SECONDS, cache_kib=64)) as writer:
        try:
            writer.execute("BEGIN IMMEDIATE")
            writer.execute("ROLLBACK")
        except sqlite3.Error as error:
            yield Finding("problem", "writing", fault_text(str(path), fault_code(error), error))
        else:
            yield Finding("fine", "writing", "The file can be locked for writing.")


def _counts(connection: sqlite3.Connection, _path: Path) -> Iterator[Finding]:
    if file_version(connection):
        counts = ", ".join(f"{n:,} {kind}" for kind, n in count_kinds(connection).items())
        yield Finding("fine", "documents", counts)
        sql = "SELECT count(*) FROM effects WHERE next < ? AND lease IS NULL"
        late = connection.execute(sql, (iso_now(),)).fetchone()[0]
        if late:
            yield Finding("note", "effects", f"{late:,} effects are due and nobody works on them just now.")


def _quick(connection: sqlite3.Connection, path: Path) -> Iterator[Finding]:
    return _whole(connection, path, "quick_check")


def _full(connection: sqlite3.Connection, path: Path) -> Iterator[Finding]:
    return _whole(connection, path, "integrity_check")


def _whole(connection: sqlite3.Connection, path: Path, check: str) -> Iterator[Finding]:
    """Read the whole file and look for damage."""
    found = [row[0] for row in connection.execute(f"PRAGMA {check}(5)")]
    if found == ["ok"]:
        yield Finding("fine", "whole", f"SQLite's {check} found no damage.")
        return
    for text in found:
        yield Finding("problem", "whole", str(text))
    yield Finding("problem", "whole", fault_text(str(path), "store-damaged"))


def steps_left(path: Path) -> int:
    """Return how many steps a file is behind this version; 0 when it is not there. Raises StoreRefused."""
    if not path.is_file():
        return 0
    try:
        with closing(
            connect(str(path), busy_seconds=BUSY_SECONDS, cache_kib=64, read_only=True)
        ) as connection:
            check_owner(connection, str(path))
            return len(STEPS) - file_version(connection)
    except sqlite3.Error as error:
        raise StoreRefused(fault_text(str(path), fault_code(error), error)) from error


def bring_file(path: Path) -> int:
    """Bring a file to this version; returns how many steps were taken. Raises StoreRefused."""
    left = steps_left(path)
    open_file(path, BUSY_SECONDS, CACHE_KIB).close()
    return left
