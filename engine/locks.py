"""Locks of sessions and profiles within one process."""

import asyncio
from collections import deque
from contextlib import suppress
from math import inf
from time import perf_counter

from headrace.engine.errors import BusyError


class Locks:
    """Locks by key, first come first served, with a bound on how many may wait for one.

    A lock that is free is taken without giving the loop back, so that what was read just before is still true.
    """

    def __init__(self, most_waiters: int) -> None:
        self._most_waiters = most_waiters
        self._held: dict[str, deque[asyncio.Future[None]] | None] = {}

    async def take(self, key: str, ends: float = inf) -> bool:
        """Take a lock; returns whether it had to be waited for.

        Raises BusyError when too many wait, or when the process's clock (`perf_counter`) says `ends`.
        """
        if self.take_free(key):
            return False
        waiters = self._held[key]
        if waiters is None:
            waiters = self._held[key] = deque()
        if len(waiters) >= self._most_waiters:
            raise BusyError(f"{len(waiters)} requests wait for the same profile or session")
        turn = asyncio.get_running_loop().create_future()
        waiters.append(turn)
        try:
            async with asyncio.timeout(None if ends == inf else ends - perf_counter()):
                await turn
        except (asyncio.CancelledError, TimeoutError) as error:
            if turn.done() and not turn.cancelled():
                self.release(key)
            else:
                # It may be gone already: who released in the same turn of the loop took it out.
                with suppress(ValueError):
                    waiters.remove(turn)
            if isinstance(error, TimeoutError):
                raise BusyError(
                    "the request waited for others of the same profile until its deadline"
                ) from None
            raise
        return True

    def take_free(self, key: str) -> bool:
        """Take a lock if it is free; returns whether it was."""
        if key in self._held:
            return False
        self._held[key] = None
        return True

    def release(self, key: str) -> None:
        """Give a lock to who waits longest, or free it."""
        waiters = self._held[key]
        while waiters:
            turn = waiters.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._held[key]

    def __len__(self) -> int:
        return len(self._held)


class Held:
    """The locks that one attempt holds; never two profiles at once."""

    __slots__ = ("_ends", "_locks", "keys")

    def __init__(self, locks: Locks, ends: float = inf) -> None:
        self._locks = locks
        self._ends = ends
        self.keys: list[str] = []

    @property
    def locks(self) -> Locks:
        """All locks of the process."""
        return self._locks

    @property
    def ends(self) -> float:
        """When nothing is waited for any more, by the process's clock."""
        return self._ends

    async def take(self, key: str) -> bool:
        """Take a lock, unless it is held already; returns whether it had to be waited for."""
        if key in self.keys:
            return False
        waited = not self._locks.take_free(key) and await self._locks.take(key, self._ends)
        self.keys.append(key)
        return waited

    def give_back(self, key: str) -> None:
        """Release one of them."""
        self.keys.remove(key)
        self._locks.release(key)

    def release(self) -> None:
        """Release all of them, the last one first."""
        while self.keys:
            self._locks.release(self.keys.pop())
