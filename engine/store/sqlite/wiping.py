"""Overwrites the unused bytes of a file's pages.

What is deleted SQLite overwrites with zeros (`secure_delete`), but when it moves rows to another page, the bytes of
those that left stay where they were, in the gap of the page that nothing uses, until a row is put there. So a copy of
a row may outlive it. VACUUM would write the whole file anew for that; this writes the gaps only, some of a page in a
few hundred. Layout of pages: https://www.sqlite.org/fileformat2.html#b_tree_pages

It runs as a program of its own, with the standard library alone: a process that closes a file loses all its locks of
it (POSIX), SQLite's too.
"""

import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from struct import unpack_from

IN_USE = 75
"""How the program ends when the log cannot be cut, since somebody reads an old state; sysexits.h: try again."""

CHUNK = 1 << 20
LOOK_SECONDS = 0.2
"""Between two tries to cut the log, which hold up whoever writes: SQLite lets a writer look each 0.1 s."""

CUT_MS = 50
"""How long one of them waits for those that read."""

HEADERS = {2: 12, 5: 12, 10: 8, 13: 8}
"""How a page of a B-tree begins, inner ones and leaves, and the bytes of its header."""

MOST_PAGES = 2 << 24
"""A page of another kind begins with the number of a page, whose first byte is less than 2 while there are fewer."""


def wipe(path: str, *, busy_seconds: float, seconds: float) -> bool:
    """Cut the log, then overwrite the gaps while nobody writes; False when the log stays in use.

    A file whose pages cannot be told apart by how they begin is written anew instead. Raises sqlite3.Error, OSError.
    What is overwritten nobody reads, so that it may end, or be killed, anywhere.
    """
    # A file that was moved away is not made anew.
    url = f"{Path(path).absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(url, timeout=busy_seconds, isolation_level=None, uri=True)) as connection:
        file = os.open(path, os.O_RDWR)
        try:
            tells = _tells_pages_apart(connection)
            if not tells:
                connection.execute("VACUUM")
            # Writers wait for what comes after this, so what is not in memory is read before.
            while os.read(file, CHUNK):
                pass
            if not _lock_alone(connection, os.path.realpath(path), busy_seconds, time.monotonic() + seconds):
                return False
            for place, length in _gaps(file) if tells else ():
                os.pwrite(file, bytes(length), place)
            os.fsync(file)
            # Another process may have pages in memory as they were, and would write them: a commit makes it read anew.
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            connection.execute(f"PRAGMA user_version = {version}")
            connection.execute("COMMIT")
        finally:
            # In this order: the locks go with the file.
            connection.close()
            os.close(file)
    return True


def _tells_pages_apart(connection: sqlite3.Connection) -> bool:
    """Say whether a page's first byte tells a page of a B-tree: not in huge files, nor where pages have maps."""
    vacuum, pages = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("auto_vacuum", "page_count")
    )
    return not vacuum and pages < MOST_PAGES


def _lock_alone(connection: sqlite3.Connection, path: str, busy_seconds: float, ends: float) -> bool:
    """Begin a transaction in which the file has everything, and the log nothing."""
    while time.monotonic() < ends:
        connection.execute(f"PRAGMA busy_timeout = {CUT_MS}")
        busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        connection.execute(f"PRAGMA busy_timeout = {int(busy_seconds * 1000)}")
        if busy:
            time.sleep(LOOK_SECONDS)
            continue
        connection.execute("BEGIN IMMEDIATE")
        # Somebody may have written in between.
        if not os.stat(f"{path}-wal").st_size:  # noqa: PTH116 - as everything here goes by descriptors and texts
            return True
        connection.execute("ROLLBACK")
    return False


def _gaps(file: int) -> Iterator[tuple[int, int]]:
    """Yield where bytes stand in gaps that are not zero, and how many; the first page is the schema's."""
    size = unpack_from(">H", os.pread(file, 2, 16))[0]
    size = 65_536 if size == 1 else size
    place = size
    while chunk := os.pread(file, CHUNK // size * size, place):
        for at in range(0, len(chunk) - size + 1, size):
            header = HEADERS.get(chunk[at])
            if header is not None:
                cells, content = unpack_from(">HH", chunk, at + 3)
                start = header + 2 * cells
                gap = chunk[at + start : at + (content or 65_536)]
                if start < (content or 65_536) <= size and gap.count(0) != len(gap):
                    yield place + at + start, len(gap)
        place += len(chunk)


if __name__ == "__main__":
    sys.exit(0 if wipe(sys.argv[1], busy_seconds=float(sys.argv[2]), seconds=float(sys.argv[3])) else IN_USE)
