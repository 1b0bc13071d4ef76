"""Reads by id of many requests in few requests."""

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Any, NamedTuple

import msgspec

from headrace.engine.store.elastic.cluster import AwayError, Cluster
from headrace.engine.store.elastic.gathering import Gathering

MAX_DOCS = 1_000
ENOUGH_DOCS = 200
PATIENCE_SECONDS = 5.0
"""How long a read is tried again when the cluster is too busy."""

ABSENT_SECONDS = 60.0
"""How long an index that was not there is taken not to be there, by those who may."""

_FIELDS = "docs._seq_no,docs._primary_term,docs.found,docs._source,docs.error.type"
_PATH = f"/_mget?filter_path={_FIELDS}"
_ONLY = ("profile", "content", "id", "change")
_NO_INDEX = "index_not_found_exception"


class Get(msgspec.Struct, frozen=True, gc=False):
    """A document to read: its index (`where`) and `_id`; `light` asks only for what says whose an event is."""

    where: str
    id: str
    light: bool = False


class _Fault(msgspec.Struct):
    type: str = ""


class Got(msgspec.Struct, rename={"seq_no": "_seq_no", "term": "_primary_term", "source": "_source"}):
    """A document that was found: its version, its source as bytes."""

    seq_no: int = -1
    term: int = 0
    found: bool = False
    source: msgspec.Raw = msgspec.Raw(b"")
    error: _Fault | None = None


class _Answer(msgspec.Struct):
    docs: list[Got] = []


_decode = msgspec.json.Decoder(_Answer).decode
_encode = msgspec.json.Encoder().encode


class _Group(NamedTuple):
    gets: Sequence[Get]
    future: asyncio.Future[list[Got | None]]


class Gets:
    """Gathers reads and sends them, some at a time. Used from one event loop."""

    def __init__(self, cluster: Cluster, patience: float = PATIENCE_SECONDS) -> None:
        self._cluster = cluster
        self._patience = patience
        self._gathering = Gathering(self._send, most=MAX_DOCS, enough=ENOUGH_DOCS)
        self._absent: dict[str, float] = {}

    def is_absent(self, where: str) -> bool:
        """Say whether an index was not there lately. Asking for it anyway is dear to the cluster."""
        return self._absent.get(where, 0.0) > monotonic()

    async def read(self, gets: Sequence[Get]) -> list[Got | None]:
        """Return each document as it is now, or None. Raises StoreError when the cluster cannot say."""
        if not gets:
            return []
        future: asyncio.Future[list[Got | None]] = asyncio.get_running_loop().create_future()
        self._gathering.add(_Group(gets, future), len(gets))
        return await future

    async def _send(self, batch: list[_Group]) -> None:
        try:
            docs = await self._ask([get for group in batch for get in group.gets])
        except Exception as error:  # noqa: BLE001 - whoever waits is told, whatever it is
            for group in batch:
                if not group.future.done():
                    group.future.set_exception(error)
            return
        at = 0
        for group in batch:
            found = docs[at : at + len(group.gets)]
            at += len(group.gets)
            if not group.future.done():
                group.future.set_result([one if one.found else None for one in found])

    async def _ask(self, gets: list[Get]) -> list[Got]:
        """Ask until there is an answer for every document, or patience ends."""
        wanted: list[dict[str, Any]] = [
            {"_index": get.where, "_id": get.id, "_source": _ONLY}
            if get.light
            else {"_index": get.where, "_id": get.id}
            for get in gets
        ]
        body = _encode({"docs": wanted})
        ends, tries = monotonic() + self._patience, 0
        while True:
            try:
                return self._whole(await self._cluster.ask("POST", _PATH, body), gets)
            except AwayError:
                wait = min(1.0, 0.05 * 2**tries)
                tries += 1
                if monotonic() + wait > ends or self._cluster.is_away:
                    raise
            await asyncio.sleep(wait)

    def _whole(self, answer: bytes, gets: list[Get]) -> list[Got]:
        try:
            docs = _decode(answer).docs
        except msgspec.DecodeError as error:
            raise AwayError(f"Elasticsearch's answer to a read could not be read: {error}") from None
        if len(docs) != len(gets):
            raise AwayError("Elasticsearch's answer to a read was cut short.")
        for get, one in zip(gets, docs, strict=True):
            if one.error is None:
                continue
            # An index that nothing was written to yet holds nothing; any other fault is no answer.
            if one.error.type != _NO_INDEX:
                raise AwayError(f"Elasticsearch cannot read a document now: {one.error.type}")
            self._absent[get.where] = monotonic() + ABSENT_SECONDS
        return docs
