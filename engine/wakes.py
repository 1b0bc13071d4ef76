"""Wakes the workers of this process after a commit."""

import asyncio
from typing import Any


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
