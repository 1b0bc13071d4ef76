"""Searches, and walks through all that fits."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from time import monotonic
from typing import Any

import msgspec

from headrace.engine.errors import BusyError
from headrace.engine.store.elastic.cluster import AwayError, Cluster, RefusedError
from headrace.engine.store.question import bad_text

ASK_SECONDS = 20.0
"""How long an answer may take."""

PATIENCE_SECONDS = 3.0
"""How long a search is tried again that the cluster was too busy for, or whose index is only being made."""

PAGE = 200
KEEP_ALIVE = "5m"
"""How long a walk may rest between two pages."""

ANY_INDEX = "ignore_unavailable=true&allow_no_indices=true"
"""Monthly indices appear with the first write: before it there is nothing to find, and that is no error."""

Body = dict[str, Any]
EVERYTHING: Body = {"match_all": {}}


class Hit(
    msgspec.Struct, rename={"where": "_index", "id": "_id", "seq_no": "_seq_no", "term": "_primary_term"}
):
    """A document that was found: its index, `_id`, version, source, and the values it was sorted by."""

    where: str
    id: str
    seq_no: int = -1
    term: int = 0
    source: msgspec.Raw = msgspec.field(name="_source", default_factory=lambda: msgspec.Raw(b"{}"))
    sort: list[Any] = []


class _Total(msgspec.Struct):
    value: int = 0


class _Hits(msgspec.Struct):
    total: _Total = msgspec.field(default_factory=_Total)
    hits: list[Hit] = []


class Found(msgspec.Struct):
    """A search's answer."""

    hits: _Hits = msgspec.field(default_factory=_Hits)
    aggregations: dict[str, msgspec.Raw] = {}
    timed_out: bool = False
    pit_id: str = ""


_decode = msgspec.json.Decoder(Found).decode
_encode = msgspec.json.Encoder().encode


async def search(cluster: Cluster, where: str, body: Mapping[str, Any]) -> Found:
    """Search indices by their names (empty: where a walk began).

    Raises InputError for a text that is none, BusyError when it takes longer than `ASK_SECONDS`, StoreError.
    """
    try:
        data = _encode({**body, "timeout": f"{ASK_SECONDS:.0f}s"})
    except UnicodeEncodeError:
        raise bad_text() from None
    options = f"allow_partial_search_results=false{f'&{ANY_INDEX}' if where else ''}"
    path = f"{f'/{where}' if where else ''}/_search?{options}"
    began, tries = monotonic(), 0
    while True:
        try:
            found = _decode(await cluster.ask("POST", path, data, seconds=ASK_SECONDS + 1))
            break
        except AwayError:
            wait = min(1.0, 0.05 * 2**tries)
            tries += 1
            passed = monotonic() - began
            if passed > ASK_SECONDS - 1:
                raise _too_long() from None
            if passed + wait > PATIENCE_SECONDS or cluster.is_away:
                raise
        except msgspec.DecodeError as error:
            raise AwayError(f"Elasticsearch's answer to a search could not be read: {error}") from None
        await asyncio.sleep(wait)
    if found.timed_out:
        raise _too_long()
    return found


async def scan(cluster: Cluster, where: str, query: Body, page: int = PAGE) -> AsyncGenerator[Hit, None]:
    """Yield every document that fits, as all were when it began, in no order that means anything."""
    path = f"/{where}/_pit?keep_alive={KEEP_ALIVE}&{ANY_INDEX}"
    pit = (await cluster.ask_json("POST", path, seconds=ASK_SECONDS))["id"]
    body: Body = {"size": page, "query": query, "seq_no_primary_term": True, "track_total_hits": False}
    body["sort"] = ["_shard_doc"]
    try:
        while True:
            body["pit"] = {"id": pit, "keep_alive": KEEP_ALIVE}
            found = await search(cluster, "", body)
            pit = found.pit_id or pit
            for hit in found.hits.hits:
                yield hit
            if len(found.hits.hits) < page:
                return
            body["search_after"] = found.hits.hits[-1].sort
    finally:
        await _end(cluster, pit)


async def _end(cluster: Cluster, pit: str) -> None:
    try:
        await cluster.ask("DELETE", "/_pit", _encode({"id": pit}))
    except (AwayError, RefusedError):
        # It ends by itself.
        return


async def refresh(cluster: Cluster, *names: str) -> None:
    """Let searches see all that was written to these indices until now. Raises StoreError."""
    await cluster.ask("POST", f"/{','.join(names)}/_refresh?{ANY_INDEX}", seconds=ASK_SECONDS)


def _too_long() -> BusyError:
    return BusyError(f"The answer took longer than {ASK_SECONDS:.0f} s. Ask for a shorter time or one type.")
