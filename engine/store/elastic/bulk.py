"""Writes of many requests in few bulks."""

import asyncio
from collections.abc import Sequence
from time import monotonic, perf_counter
from typing import Any

import msgspec

from headrace.engine.errors import BusyError, StoreError
from headrace.engine.store.elastic.cluster import NO_INDEX, AwayError, Cluster, RefusedError
from headrace.engine.store.elastic.gathering import Gathering
from headrace.engine.store.protocol import NoteCommit, note_nothing

MAX_OPERATIONS = 2_000
ENOUGH_OPERATIONS = 500
"""Of one bulk: at most, and so many that it need not wait for others to end."""

MAX_WAITING_BYTES = 96 << 20
PATIENCE_SECONDS = 8.0
"""How long a write is tried again when the cluster is away or too busy; less than a request's deadline."""

_ITEMS = "items.*.status,items.*._seq_no,items.*._primary_term,items.*.error.type,items.*.error.reason"
_PATH = f"/_bulk?filter_path={_ITEMS}"
_FAULT = 400
_AGAIN = frozenset((429, 503, 502, 504, 408))


class Operation(msgspec.Struct, frozen=True, gc=False):
    """One line of a bulk, and the source that it writes (None: it deletes)."""

    line: bytes
    source: bytes | None


class _Fault(msgspec.Struct):
    type: str = ""
    reason: str | None = None


class Done(msgspec.Struct, rename={"seq_no": "_seq_no", "term": "_primary_term"}):
    """What became of one operation: an HTTP status, and the version that was written."""

    status: int
    seq_no: int = -1
    term: int = 0
    error: _Fault | None = None

    @property
    def reason(self) -> str:
        """Why it was refused."""
        return "" if self.error is None else f"{self.error.type}: {self.error.reason or ''}"[:400]


class _Answer(msgspec.Struct):
    items: list[dict[str, Done]] = []


_decode = msgspec.json.Decoder(_Answer).decode


class _Group:
    """Operations that somebody waits for together."""

    __slots__ = ("done", "ends", "future", "left", "operations", "size", "tries")

    def __init__(self, operations: Sequence[Operation], future: asyncio.Future[Any], ends: float) -> None:
        self.operations = operations
        self.future = future
        self.ends = ends
        self.size = 0
        """Bytes, about."""
        for one in operations:
            self.size += len(one.line) + len(one.source or b"") + 2
        self.done: list[Done | None] = [None] * len(operations)
        self.left: Sequence[int] = range(len(operations))
        self.tries = 0


class Bulk:
    """Gathers operations and sends them, some bulks at a time. Used from one event loop.

    `note_commit` is told of each bulk that was answered; a change is then what somebody waits for together.
    """

    def __init__(self, cluster: Cluster, note_commit: NoteCommit = note_nothing) -> None:
        self._cluster = cluster
        self._note_commit = note_commit
        self._gathering = Gathering(self._send, most=MAX_OPERATIONS, enough=ENOUGH_OPERATIONS)
        self.waiting_bytes = 0

    async def write(
        self, operations: Sequence[Operation], *, patience: float = PATIENCE_SECONDS
    ) -> list[Done]:
        """Write operations, in no particular order, and return what became of each.

        What the cluster is too busy for, or was away for, is sent again for `patience` seconds: give only operations
        that are harmless when they are done twice. Raises StoreError when it did not answer in that time: then they
        may have been done or not. Raises BusyError when too much waits already.
        """
        if not operations:
            return []
        if self.waiting_bytes > MAX_WAITING_BYTES:
            raise BusyError(f"{self.waiting_bytes >> 20} MiB wait for Elasticsearch already.")
        future: asyncio.Future[list[Done]] = asyncio.get_running_loop().create_future()
        group = _Group(operations, future, monotonic() + patience)
        self.waiting_bytes += group.size
        try:
            self._enqueue(group)
            return await future
        finally:
            self.waiting_bytes -= group.size

    def _enqueue(self, group: _Group) -> None:
        self._gathering.add(group, len(group.left), group.size)

    async def _send(self, batch: list[_Group]) -> None:
        lines = list[bytes]()
        for group in batch:
            for at in group.left:
                one = group.operations[at]
                lines.append(one.line)
                if one.source is not None:
                    lines.append(one.source)
        lines.append(b"")
        began = perf_counter()
        try:
            answer = _decode(await self._cluster.ask("POST", _PATH, b"\n".join(lines), lines=True)).items
            if len(answer) != sum(len(group.left) for group in batch):
                raise AwayError("Elasticsearch's answer to a bulk was cut short.")
        except RefusedError as error:
            self._refused(batch, error)
            return
        except msgspec.DecodeError as error:
            self._again(batch, AwayError(f"Elasticsearch's answer to a bulk could not be read: {error}"))
            return
        except AwayError as error:
            self._again(batch, error)
            return
        self._note_commit(len(batch), perf_counter() - began)
        items = iter(answer)
        for group in batch:
            self._take(group, [done for _ in group.left for done in next(items).values()])

    def _take(self, group: _Group, results: list[Done]) -> None:
        """Keep a group's results; what the cluster was too busy for is sent again."""
        left = []
        for place, result in zip(group.left, results, strict=True):
            group.done[place] = result
            if result.status < _FAULT:
                continue
            if result.status in _AGAIN:
                left.append(place)
            elif result.error is not None and result.error.type == NO_INDEX:
                self._cluster.misses_index = True
        group.left = left
        if left:
            reason = next(result.reason for result in results if result.status in _AGAIN)
            self._again([group], AwayError(f"Elasticsearch is too busy: {reason}"))
        elif not group.future.done():
            group.future.set_result(group.done)

    def _refused(self, batch: list[_Group], error: RefusedError) -> None:
        """End a bulk that was refused as a whole: only one of its groups may be to blame."""
        if len(batch) > 1:
            for group in batch:
                self._gathering.send_alone(group)
        elif not batch[0].future.done():
            batch[0].future.set_exception(error)

    def _again(self, batch: list[_Group], error: StoreError) -> None:
        """Send groups again after a while, or give up those whose time is over."""
        loop = asyncio.get_running_loop()
        for group in batch:
            wait = min(1.0, 0.05 * 2**group.tries)
            group.tries += 1
            if monotonic() + wait < group.ends and not group.future.done():
                loop.call_later(wait, self._enqueue, group)
            elif not group.future.done():
                group.future.set_exception(error)
