"""Counts what waits for a worker, for the metrics."""

import asyncio

from headrace.engine.errors import BusyError, StoreError
from headrace.engine.metrics import Metrics
from headrace.engine.model import from_iso, utc_now
from headrace.engine.store.protocol import DueKind, Store, Waiting

EVERY_SECONDS = 10.0


class Backlog:
    """Asks the store now and then how many effects, or timers, of all processes are pending."""

    def __init__(self, store: Store, metrics: Metrics, kind: DueKind = "effect") -> None:
        self._store = store
        self._kind = kind
        self._waiting = Waiting(0, None)
        about = {"effect": "Effects that wait to be sent", "timer": "Timers that wait for their time"}[kind]
        oldest = {
            "effect": "Age of the oldest effect that waits.",
            "timer": "How long the oldest timer is due.",
        }
        metrics.gauge(f"{kind}s_pending", f"{about}, up to 100,000.", lambda: self._waiting.number)
        metrics.gauge(f"{kind}s_oldest_seconds", oldest[kind], self._oldest_seconds)

    def _oldest_seconds(self) -> float:
        oldest = self._waiting.oldest
        return 0.0 if oldest is None else max((utc_now() - from_iso(oldest)).total_seconds(), 0.0)

    async def look(self) -> None:
        """Count now; what the store cannot say stays as it was."""
        try:
            self._waiting = await self._store.waiting(self._kind)
        except (StoreError, BusyError):
            return

    async def run(self) -> None:
        """Count, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY_SECONDS)
