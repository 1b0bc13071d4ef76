"""Finishes what processes that died left, and empties `pending`."""

import asyncio
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import msgspec
import structlog

from headrace.engine.errors import BusyError, StoreError
from headrace.engine.model import iso, new_id, utc_now
from headrace.engine.store.elastic.bulk import Bulk, Operation
from headrace.engine.store.elastic.cluster import Cluster, RefusedError
from headrace.engine.store.elastic.layout import alias
from headrace.engine.store.elastic.parts import REDO_MS, Part, pending_members, replace_line
from headrace.engine.store.elastic.settle import KEPT, Settler

RECORDS = ("profiles", "sessions", "events")
BATCH = 200
LEASE_SECONDS = 30.0
LEASE_ID = "sweeper"

_log = structlog.get_logger(__name__)


class _Hit(
    msgspec.Struct, rename={"where": "_index", "id": "_id", "seq_no": "_seq_no", "term": "_primary_term"}
):
    where: str
    id: str
    seq_no: int
    term: int
    source: dict[str, msgspec.Raw] = msgspec.field(name="_source")
    sort: list[Any] = []


class _Hits(msgspec.Struct):
    hits: list[_Hit] = []


class _Found(msgspec.Struct):
    hits: _Hits = msgspec.field(default_factory=_Hits)


_decode_hits = msgspec.json.Decoder(_Found).decode
_decode_parts = msgspec.json.Decoder(list[Part]).decode
_encode = msgspec.json.Encoder().encode


class Sweeper:
    """Goes through records whose documents wait. One process at a time does it, by a lease in the cluster."""

    def __init__(self, cluster: Cluster, bulk: Bulk, settler: Settler) -> None:
        self._cluster = cluster
        self._bulk = bulk
        self._settler = settler
        self._name = new_id()
        self.stuck = self.unwritten = 0
        """Records that the last sweep met and could not finish; of these, those that hold documents not written yet."""

    async def sweep(self, older_than: timedelta = timedelta(milliseconds=2 * REDO_MS)) -> int:
        """Finish every record that has waited so long; returns how many. Raises StoreError when it cannot go on."""
        total = self.stuck = self.unwritten = 0
        before = utc_now() - older_than
        for kind in RECORDS:
            behind: list[Any] | None = None
            while found := await self._waiting(kind, before, behind):
                is_known, stuck = await self._clean(found)
                self.stuck += len(stuck)
                total += len(found) - len(stuck)
                if not is_known:
                    break
                if stuck:
                    # Nobody waits for those that are refused: the next sweep tries them again.
                    behind = found[-1].sort
                # A search sees what was written with the next refresh only, and others want their turn.
                await self._cluster.ask("POST", f"/{alias(self._cluster.place, kind)}/_refresh")
        return total

    async def lease(self, now: datetime) -> bool:
        """Take, or keep, the lease to sweep; False when another process holds it."""
        path = f"/{alias(self._cluster.place, 'about')}/_doc/{LEASE_ID}"
        try:
            found: dict[str, Any] = await self._cluster.ask_json("GET", path)
            source = found["_source"]
            if source["holder"] != self._name and source["until"] > iso(now):
                return False
            condition = f"if_seq_no={found['_seq_no']}&if_primary_term={found['_primary_term']}"
        except RefusedError as error:
            if error.status != 404:
                raise
            condition = "op_type=create"
        body = {"key": LEASE_ID, "holder": self._name, "until": iso(now + timedelta(seconds=LEASE_SECONDS))}
        try:
            await self._cluster.ask_json("PUT", f"{path}?{condition}", body)
        except RefusedError as error:
            if error.status != 409:
                raise
            return False
        return True

    async def _waiting(self, kind: str, before: datetime, behind: list[Any] | None) -> list[_Hit]:
        """Return records that have waited since before a time, the oldest first, from behind a place in that order."""
        body: dict[str, Any] = {
            "size": BATCH,
            "seq_no_primary_term": True,
            "query": {"range": {"pending_since": {"lt": _millis(before)}}},
            "sort": ["pending_since", "key"],
            "track_total_hits": False,
        }
        if behind is not None:
            body["search_after"] = behind
        path = f"/{alias(self._cluster.place, kind)}/_search?ignore_unavailable=true&allow_no_indices=true"
        answer = await self._cluster.ask("POST", path, _encode(body), seconds=20)
        return _decode_hits(answer).hits.hits

    async def _clean(self, hits: list[_Hit]) -> tuple[bool, list[_Hit]]:
        """Write what records hold and take it out of them.

        Returns whether the cluster said what became of it all, and those whose documents are not all written, or
        that take no writes themselves, as while they are migrated.
        """
        parts = {hit.id: _decode_parts(hit.source["pending"]) for hit in hits if "pending" in hit.source}
        settled = await self._settler.settle(part for of in parts.values() for part in of)
        operations, whole, stuck = list[Operation](), list[_Hit](), list[_Hit]()
        for hit in hits:
            mine = parts.get(hit.id, [])
            if all(part.id in self._settler.done or not part.left for part in mine):
                whole.append(hit)
                operations.append(
                    Operation(replace_line(hit.where, hit.id, hit.seq_no, hit.term), _cleaned(hit, mine))
                )
            else:
                stuck.append(hit)
        self.unwritten += len(stuck)
        done = await self._bulk.write(operations)
        stuck += [hit for hit, one in zip(whole, done, strict=True) if one.status not in KEPT]
        return settled is not None, stuck

    async def run(self, every_seconds: float) -> None:
        """Sweep now and again, until it is cancelled."""
        took = 0.0
        while True:
            # What cannot be written is met by every sweep: no more than half of the time goes to it.
            await asyncio.sleep(max(every_seconds, took))
            began = monotonic()
            try:
                if await self.lease(utc_now()):
                    await self.sweep()
            except (StoreError, BusyError) as error:
                _log.warning("store.sweep_failed", error=str(error))
            except msgspec.MsgspecError as error:
                _log.error("store.sweep_failed", error=str(error))
            took = monotonic() - began


def _cleaned(hit: _Hit, parts: list[Part]) -> bytes:
    """Return a record's source with nothing that waits; what its readers may still need to know stays."""
    members = {name: raw for name, raw in hit.source.items() if name not in ("pending", "pending_since")}
    stubs = [part.stub() for part in parts if part.keys or part.session]
    return _encode(members)[:-1] + pending_members(stubs) + b"}"


def _millis(time: datetime) -> int:
    return int(time.astimezone(UTC).timestamp() * 1000)
