"""Looks into a cluster with requests that read, and no others."""

from collections.abc import Sequence

from headrace.engine.errors import StoreRefused
from headrace.engine.model import Doc
from headrace.engine.store.elastic.ask import Questions
from headrace.engine.store.elastic.cluster import Cluster
from headrace.engine.store.elastic.gets import Gets
from headrace.engine.store.elastic.layout import VERSION
from headrace.engine.store.elastic.place import Place
from headrace.engine.store.elastic.records import Records
from headrace.engine.store.elastic.setup import Setup
from headrace.engine.store.protocol import AskKind, Page, Query, Ref, Stored


class ElasticLook:
    """Reads documents and asks questions. It makes no template or index, and settles nothing that waits."""

    def __init__(self, place: Place, dedup_days: int) -> None:
        self._cluster = Cluster(place)
        gets = Gets(self._cluster)
        self._records = Records(place, gets, dedup_days)
        self._questions = Questions(self._cluster, gets, dedup_days)

    async def begin(self) -> None:
        """Look whether the indices are there. Raises StoreRefused, StoreError."""
        found = await Setup(self._cluster).found_version()
        shown = self._cluster.place.shown()
        if found is None:
            raise StoreRefused(f"{shown}: there is no store. The first start of a server makes it.")
        if found != VERSION:
            raise StoreRefused(
                f"{shown}: the indices have version {found}, not {VERSION}: `headrace store migrate` brings "
                "older ones to it, a newer Headrace reads newer ones."
            )

    async def read(self, refs: Sequence[Ref], *, recent: bool = False) -> list[Stored | None]:  # noqa: ARG002
        """Return each document by its id, as it is now, or None."""
        return await self._records.read(refs)

    async def get(self, kind: AskKind, key: str) -> Doc | None:
        """Return one document by its key, as it is now."""
        return await self._questions.get(kind, key)

    async def find(self, query: Query) -> Page:
        """Return the newest documents that fit, a page at a time, as of the last refresh."""
        return await self._questions.find(query)

    async def count(self, query: Query, at_most: int | None = None) -> int:
        """Return how many documents fit, counting no further than `at_most`, as of the last refresh."""
        return await self._questions.count(query, at_most)

    async def close(self) -> None:
        """Close the connections."""
        await self._cluster.close()
