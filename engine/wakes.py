"""Wakes the workers of this process, after a commit or regularly."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from headrace.engine.errors import BusyError, StoreError
from headrace.engine.logs import logger


class Wakes:
    """Two bells: one for who sends effects, one for who fires timers. Other processes look by themselves."""

    __slots__ = ("effects", "timers")

    def __init__(self) -> None:
        self.effects = asyncio.Event()
        self.timers = asyncio.Event()

    def tell(self, effects: list[Any], timers: list[Any]) -> None:
        """Ring for what a commit wrote."""
        if effects:
            self.effects.set()
        if timers:
            self.timers.set()


async def look_for_ever(look: Callable[[], Awaitable[None]], seconds: float, trouble: str) -> None:
    """Look again and again; `trouble` says in the log what was not done, of a store that is away only once."""
    said = ""
    while True:
        try:
            await look()
            said = ""
        except (StoreError, BusyError) as error:
            if str(error) != said:
                said = str(error)
                logger().warning(trouble, error=said)
        # The edge of the task: whatever went wrong, the next look tries again.
        except Exception:  # noqa: BLE001
            logger().exception(trouble)
        await asyncio.sleep(seconds)
