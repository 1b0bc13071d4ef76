"""Looks into the file through a connection that cannot write."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from headrace.engine.errors import BusyError, StoreError, StoreRefused
from headrace.engine.model import Doc
from headrace.engine.store.protocol import AskKind, Page, Query, Ref, Stored
from headrace.engine.store.sqlite.ask import count_docs, find_page, get_doc
from headrace.engine.store.sqlite.files import fault_code, fault_text
from headrace.engine.store.sqlite.reader import read_refs
from headrace.engine.store.sqlite.schema import STEPS, check_owner, file_version

T = TypeVar("T")

ANSWER_SECONDS = 60.0
"""How long one question may take: nobody else waits for this connection."""

BUSY_SECONDS = 5.0
CACHE_KIB = 4096


class SqliteLook:
    """One connection, opened for reading only: SQLite itself refuses every write, a checkpoint at the end too."""

    def __init__(self, path: Path) -> None:
        """Open a file that exists. Raises StoreRefused."""
        self._path = str(path)
        self._turn = threading.Lock()
        try:
            # The mode, not only a pragma: the last one to close a file that it may write would move its log into it.
            self._connection = sqlite3.connect(
                f"file:{quote(self._path)}?mode=ro",
                uri=True,
                timeout=BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            for pragma in (f"cache_size = {-CACHE_KIB}", "mmap_size = 0", "trusted_schema = OFF"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._check()
        except sqlite3.Error as error:
            raise StoreRefused(fault_text(self._path, fault_code(error), error)) from error

    def _check(self) -> None:
        check_owner(self._connection, self._path)
        version = file_version(self._connection)
        if version < len(STEPS):
            raise StoreRefused(
                f"{self._path} has tables of version {version}, not {len(STEPS)}: the next start of a server, or "
                "`headrace store migrate`, brings them to it."
            )

    async def read(self, refs: Sequence[Ref], *, recent: bool = False) -> list[Stored | None]:  # noqa: ARG002
        """Return each document by its id, as it is now, or None."""
        return await self._ask(lambda connection: read_refs(connection, refs, None))

    async def get(self, kind: AskKind, key: str) -> Doc | None:
        """Return one document by its key."""
        return await self._ask(lambda connection: get_doc(connection, kind, key))

    async def find(self, query: Query) -> Page:
        """Return the newest documents that fit, a page at a time. Raises InputError on a bad question."""
        return await self._ask(lambda connection: find_page(connection, query))

    async def count(self, query: Query, at_most: int | None = None) -> int:
        """Return how many documents fit, counting no further than `at_most`."""
        return await self._ask(lambda connection: count_docs(connection, query, at_most))

    async def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    async def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.to_thread(self._answer, question)

    def _answer(self, question: Callable[[sqlite3.Connection], T]) -> T:
        with self._turn:
            ends = time.monotonic() + ANSWER_SECONDS
            self._connection.set_progress_handler(lambda: time.monotonic() > ends, 100_000)
            try:
                return question(self._connection)
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                    text = f"The answer took longer than {ANSWER_SECONDS:.0f} s. Ask for a shorter time or one type."
                    raise BusyError(text) from error
                raise StoreError(fault_text(self._path, fault_code(error), error)) from error
