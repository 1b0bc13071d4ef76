"""What the tests of the store's parts share."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from headrace.engine.store.elastic import ElasticStore
from headrace.engine.store.elastic.ask import Questions
from headrace.engine.store.elastic.bulk import Bulk, Operation
from headrace.engine.store.elastic.cluster import Cluster
from headrace.engine.store.elastic.due import Leases
from headrace.engine.store.elastic.gets import Get, Gets
from headrace.engine.store.elastic.layout import alias
from headrace.engine.store.elastic.place import read_place
from headrace.engine.store.elastic.reading import encode_members, raw
from headrace.engine.store.elastic.search import refresh
from tests.stores import written

DEDUP_DAYS = 28


@dataclass
class Rig:
    """A store of its own on the node, and its parts."""

    store: ElasticStore
    cluster: Cluster
    bulk: Bulk
    gets: Gets
    questions: Questions
    leases: Leases

    def alias(self, kind: str) -> str:
        return alias(self.cluster.place, kind)

    async def put(self, where: str, id: str, **members: Any) -> None:
        """Write a source as it is."""
        line = f'{{"index":{{"_index":"{where}","_id":"{id}"}}}}'.encode()
        source = encode_members({name: raw(value) for name, value in members.items()})
        (done,) = await self.bulk.write([Operation(line, source)])
        assert done.status in {200, 201}, done.reason

    async def source(self, where: str, id: str) -> bytes | None:
        await written(self.store)
        (got,) = await self.gets.read([Get(where, id)])
        return None if got is None else bytes(got.source)

    async def refresh(self) -> None:
        """Let searches see all that was committed."""
        await written(self.store)
        await refresh(self.cluster, f"{self.cluster.place.prefix}-*")


@pytest.fixture
async def rig(elastic_url: str) -> AsyncIterator[Rig]:
    """Give a store whose searches see only what was refreshed, so that no test hangs on a moment."""
    place = read_place(elastic_url.partition("?")[0] + "?refresh=-1")
    store = ElasticStore(place, dedup_days=DEDUP_DAYS, request_seconds=10)
    assert await store.ready() == ""
    cluster = Cluster(place)
    bulk, gets = Bulk(cluster), Gets(cluster)
    yield Rig(store, cluster, bulk, gets, Questions(cluster, gets, DEDUP_DAYS), Leases(cluster, bulk, gets))
    await store.close()
    await cluster.close()
