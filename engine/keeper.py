"""Keeps traces, some at a time, beside the requests."""

import asyncio

from headrace.engine.logs import logger
from headrace.engine.store.protocol import Row, Store

EVERY_SECONDS = 0.25
"""How long traces are gathered: a write of its own for each would cost the requests most of the disk."""

MOST = 2_000
"""Traces that may wait; more are dropped, aloud."""


class Keeper:
    """Gathers traces and writes them together, best effort."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[Row] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, traces: list[Row]) -> None:
        """Take traces, which are kept within a moment."""
        if len(self._waiting) + len(traces) > MOST:
            logger().warning("traces dropped", traces=len(traces))
            return
        self._waiting += traces
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        while self._waiting:
            await asyncio.sleep(EVERY_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write what waits now."""
        traces, self._waiting = self._waiting, []
        if traces:
            await self._store.keep_traces(traces)

    async def close(self) -> None:
        """Write what waits."""
        if self._task is not None:
            self._task.cancel()
        await self.flush()
