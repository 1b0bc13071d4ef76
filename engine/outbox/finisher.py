"""Writes what became of effects, many in one write."""

import asyncio
from collections.abc import Callable

import msgspec

from headrace.engine.crash import crash_point
from headrace.engine.errors import BusyError, StoreError
from headrace.engine.logs import logger
from headrace.engine.model import Doc
from headrace.engine.store.protocol import Due, Leased

GATHER_SECONDS = 0.005
MOST = 512
AGAIN_SECONDS = 0.5


class _Ended(msgspec.Struct):
    leased: Leased
    doc: Doc
    until: float


class Finisher:
    """Gathers what ended for a moment and writes it. What cannot be written while its lease lasts is let go.

    `written` is called with the document of each.
    """

    def __init__(self, store: Due, clock: Callable[[], float], written: Callable[[Doc], None]) -> None:
        self._store = store
        self._clock = clock
        self._written = written
        self._ended: list[_Ended] = []
        self._bell = asyncio.Event()
        self._docs: dict[str, Doc] = {}
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def add(self, leased: Leased, doc: Doc, until: float) -> None:
        """Take an effect whose lease ends at a time of the process's clock."""
        self._ended.append(_Ended(leased, doc, until))
        self._docs[leased.key] = doc
        self._bell.set()

    def doc_of(self, key: str) -> Doc | None:
        """Return an effect that is still to be written."""
        return self._docs.get(key)

    def start(self) -> None:
        """Begin to write what comes."""
        self._task = asyncio.create_task(self._run(), name="outbox-finish")

    async def _run(self) -> None:
        while not (self._closing and not self._ended):
            await self._bell.wait()
            await asyncio.sleep(GATHER_SECONDS)
            if await self._flush():
                continue
            if self._closing:
                return
            await asyncio.sleep(AGAIN_SECONDS)

    async def _flush(self) -> bool:
        """Write all that ended until now; False when the store could not take it."""
        self._bell.clear()
        while self._ended:
            batch, self._ended = self._ended[:MOST], self._ended[MOST:]
            try:
                await self._store.done_many("effect", [(one.leased, one.doc) for one in batch])
            # The edge of the task: whatever went wrong, it is tried again while the leases last.
            except Exception as error:  # noqa: BLE001
                is_expected = isinstance(error, StoreError | BusyError)
                logger().warning("effects not written", error=str(error), exc_info=not is_expected)
                self._again(batch)
                return False
            for one in batch:
                self._forget(one)
            crash_point("effects.done")
        return True

    def _again(self, batch: list[_Ended]) -> None:
        now = self._clock()
        self._ended = [one for one in batch if one.until > now] + self._ended
        for one in batch:
            if one.until <= now:
                # Its lease has ended: it is sent again, with the same key.
                self._forget(one)
        self._bell.set()

    def _forget(self, one: _Ended) -> None:
        if self._docs.get(one.leased.key) is one.doc:
            del self._docs[one.leased.key]
        self._written(one.doc)

    async def close(self) -> None:
        """Write what is left, if the store takes it."""
        self._closing = True
        self._bell.set()
        if self._task is not None:
            await self._task
