"""Opens a store to look into it, while servers work on it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from headrace.engine.errors import StoreRefused
from headrace.engine.model import Doc
from headrace.engine.store.open import cluster_place, sqlite_path
from headrace.engine.store.protocol import AskKind, Page, Query, Ref, Stored


class Looking(Protocol):
    """A store that can only be read: nothing is made, migrated, swept or written in it. Methods raise StoreError."""

    async def read(self, refs: Sequence[Ref], *, recent: bool = False) -> list[Stored | None]:
        """Return each document of the write path by its id, or None; `recent` says nothing here."""
        ...

    async def get(self, kind: AskKind, key: str) -> Doc | None:
        """Return one document by its key, or None."""
        ...

    async def find(self, query: Query) -> Page:
        """Return the newest documents that fit, a page at a time."""
        ...

    async def count(self, query: Query, at_most: int | None = None) -> int:
        """Return how many documents fit, counting no further than `at_most`."""
        ...

    async def close(self) -> None:
        """Close it."""
        ...


async def open_looking(url: str, *, data: Path, dedup_days: int = 28) -> Looking:
    """Open the store of a URL to read it; the caller closes it. A server may work on it meanwhile.

    Raises StoreRefused for what is no store, is not there, or has not the version of this program; StoreError when it
    cannot be read now.
    """
    path = sqlite_path(url, data)
    if path is not None:
        from headrace.engine.store.sqlite.looking import SqliteLook  # noqa: PLC0415 - when it is named

        if not path.is_file():
            raise StoreRefused(f"There is no database {path}.")
        return await asyncio.to_thread(SqliteLook, path)
    place = cluster_place(url)
    from headrace.engine.store.elastic.looking import ElasticLook  # noqa: PLC0415 - as above

    looking = ElasticLook(place, dedup_days)
    try:
        await looking.begin()
    except BaseException:
        await looking.close()
        raise
    return looking
