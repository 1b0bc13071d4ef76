"""The stores that the same tests run over, each looked into alike."""

import asyncio
import json
import sqlite3
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

from headrace.engine.store.elastic.bulk import Bulk
from headrace.engine.store.elastic.cluster import Cluster
from headrace.engine.store.elastic.place import read_place
from headrace.engine.store.elastic.settle import Settler
from headrace.engine.store.elastic.sweep import RECORDS, Sweeper
from headrace.engine.store.open import FILE_NAME
from headrace.engine.store.protocol import Store
from tests.parts.elasticsearch import ElasticsearchNode

Doc = dict[str, Any]

STORES = ("embedded", "elastic")
"""Every store, by the words in the names of tests."""

KINDS = ("profiles", "sessions", "claims", "events", "failed", "effects", "timers")
PAGE = 2000


def bytes_of(file: Path) -> bytes:
    """Return what stands in a file that this process may have open as a database.

    Another process reads it: who closes a file loses all locks of it (POSIX), SQLite's too.
    """
    return subprocess.run(["cat", str(file)], capture_output=True, check=True).stdout


async def written(*stores: Store) -> None:
    """Wait until what stores have answered is where questions look for it."""
    for store in stores:
        while store.describe().get("waiting_documents"):  # noqa: ASYNC110 - it tells nobody when it is done
            await asyncio.sleep(0.01)


class Place(ABC):
    """Where a test keeps its data: the URL that a server is given, and what stands there."""

    url: str
    kind: str
    """The store's word for itself."""

    @abstractmethod
    def contents(self, *kinds: str) -> dict[str, list[Any]]:
        """Return everything that is kept, of every kind (traces aside) or of some, in an order that stays."""

    @abstractmethod
    def docs(self, kind: str) -> list[Doc]:
        """Return a kind's documents; what is no document, such as the mark of an event, is left out."""

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """Return how many there are of each kind; under `all events` stand those too that left only a mark."""

    @abstractmethod
    def emptied(self, data: Path) -> "Place":
        """Return an empty place for a test that wants several, one after another; `data` is a folder for it."""

    def show(self) -> None:  # noqa: B027 - a store without a lag has nothing to do
        """Let questions see what was written until now."""

    async def finish(self) -> None:  # noqa: B027 - a store with transactions leaves nothing
        """Write what processes that are dead left to be written."""

    def wait_until_finished(self, seconds: float) -> None:  # noqa: B027 - as above
        """Wait until servers that run have done that by themselves; raises AssertionError when they do not."""


class EmbeddedPlace(Place):
    """The file in a data folder."""

    def __init__(self, data: Path) -> None:
        self.url = "sqlite:"
        self.kind = "sqlite"
        self.data = data
        self._file = data / FILE_NAME

    def emptied(self, data: Path) -> Place:
        return EmbeddedPlace(data)

    def contents(self, *kinds: str) -> dict[str, list[Any]]:
        return {
            kind: self._rows(f"SELECT * FROM {kind} ORDER BY n")  # noqa: S608 - names of ours
            for kind in kinds or KINDS
        }

    def docs(self, kind: str) -> list[Doc]:
        assert self._rows("PRAGMA integrity_check") == [("ok",)]
        mark = " WHERE type != ''" if kind == "events" else ""
        return [json.loads(doc) for (doc,) in self._rows(f"SELECT doc FROM {kind}{mark} ORDER BY n")]  # noqa: S608

    def counts(self) -> dict[str, int]:
        wanted = {kind: f"SELECT count(*) FROM {kind}" for kind in KINDS}  # noqa: S608 - names of ours
        wanted |= {"events": "SELECT count(type) FROM events", "all events": wanted["events"]}
        return {name: self._rows(statement)[0][0] for name, statement in wanted.items()}

    def _rows(self, statement: str) -> list[Any]:
        with closing(sqlite3.connect(self._file)) as connection:
            return connection.execute(statement).fetchall()


class ElasticPlace(Place):
    """Indices with a prefix of their own on a node."""

    def __init__(self, node: ElasticsearchNode, url: str) -> None:
        self.url = url
        self.kind = "elasticsearch"
        self.node = node
        self.prefix = read_place(url).prefix

    def contents(self, *kinds: str) -> dict[str, list[Any]]:
        """Return ids and sources, without what waits in a record: that says nothing new once it is written."""
        return {
            kind: sorted(
                (
                    (id, {name: value for name, value in source.items() if not name.startswith("pending")})
                    for id, source in self._sources(kind)
                ),
                key=lambda one: one[0],
            )
            for kind in kinds or KINDS
        }

    def docs(self, kind: str) -> list[Doc]:
        found = []
        for _, source in self._sources(kind):
            if "text" in source:
                found.append(json.loads(source["text"]))
            elif "doc" in source:
                found.append(source["doc"])
        return found

    def counts(self) -> dict[str, int]:
        self.show()
        with_type: Doc = {"filter": {"exists": {"field": "type"}}}
        body: Doc = {"size": 0, "aggs": {"of": {"terms": {"field": "_index", "size": 200}}}}
        body["aggs"]["of"]["aggs"] = {"typed": with_type}
        found = self._ask("POST", f"/{self.prefix}-*/_search", body)["aggregations"]["of"]["buckets"]
        of = dict.fromkeys((*KINDS, "all events"), 0)
        for bucket in found:
            kind = bucket["key"].removeprefix(f"{self.prefix}-").partition("-")[0]
            if kind == "events":
                of["all events"] += bucket["doc_count"]
                of["events"] += bucket["typed"]["doc_count"]
            elif kind in of:
                of[kind] += bucket["doc_count"]
        return of

    def show(self) -> None:
        self._ask("POST", f"/{self.prefix}-*/_refresh")

    async def finish(self) -> None:
        cluster = Cluster(read_place(self.url))
        try:
            self.show()
            bulk = Bulk(cluster)
            await Sweeper(cluster, bulk, Settler(bulk)).sweep(timedelta(0))
        finally:
            await cluster.close()
        assert not self._waiting()

    def wait_until_finished(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while waiting := self._waiting():
            assert time.monotonic() < until, f"{waiting} records still wait"
            time.sleep(0.2)

    def emptied(self, data: Path) -> Place:  # noqa: ARG002
        self.clear()
        return self

    def clear(self) -> None:
        """Delete all documents; the indices stay, as making them takes a second."""
        self.show()
        body: Doc = {"query": {"match_all": {}}}
        kinds = ",".join(f"{self.prefix}-{kind}*" for kind in (*KINDS, "traces"))
        self._ask("POST", f"/{kinds}/_delete_by_query?conflicts=proceed&refresh=true", body)

    def _waiting(self) -> int:
        """Return how many records hold what is still to be written."""
        self.show()
        names = ",".join(f"{self.prefix}-{kind}*" for kind in RECORDS)
        body = {"query": {"exists": {"field": "pending_since"}}}
        return int(self._ask("POST", f"/{names}/_count", body)["count"])

    def _sources(self, kind: str) -> Iterator[tuple[str, Doc]]:
        self.show()
        body: Doc = {"size": PAGE, "query": {"match_all": {}}, "sort": ["key", "_index"]}
        while hits := self._ask("POST", f"/{self.prefix}-{kind}*/_search", body)["hits"]["hits"]:
            yield from ((hit["_id"], hit["_source"]) for hit in hits)
            body["search_after"] = hits[-1]["sort"]

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        status, said = self.node.ask(method, path, body)
        assert status == 200, said
        return said
