"""Gathers what many requests want into few requests to the cluster."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import msgspec

G = TypeVar("G")

IN_FLIGHT = 4
"""Requests under way at once, at most. While one is, what comes is gathered for the next: few large requests cost
the cluster and us half of what many small ones do."""

LONGEST_SECONDS = 0.02
"""A further one goes while others are under way when enough has come, or the first has waited so long."""

PAUSE_SECONDS = 0.004
LONGEST_PAUSE_SECONDS = 0.01
PAUSE_OF_A_GROUP = 0.00025
BUSY_GROUPS = 8
"""After a request of so many groups the next waits a little, even when none is under way: many more are about to come,
and a request costs the cluster as much as ten documents. The more there were, the longer: they wait for us anyway."""

MAX_BYTES = 8 << 20
"""Of one request; a group that is larger goes alone."""


class _Waiting(msgspec.Struct, Generic[G], frozen=True, gc=False):
    group: G
    items: int
    size: int


class Gathering(Generic[G]):
    """A queue of groups, each of some items, that are sent some at a time. Used from one event loop."""

    def __init__(self, send: Callable[[list[G]], Awaitable[None]], *, most: int, enough: int) -> None:
        self._send = send
        self._most = most
        self._enough = enough
        self._queue: deque[_Waiting[G]] = deque()
        self._items = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_due = False
        self._pause = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, group: G, items: int, size: int = 0) -> None:
        """Queue a group of so many items and bytes."""
        self._queue.append(_Waiting(group, items, size))
        self._items += items
        self._schedule()

    def send_alone(self, group: G) -> None:
        """Send a group now, with nothing else."""
        self._start([group])

    def _schedule(self) -> None:
        """Send at the end of this turn of the loop, with what else comes in it, or gather for a while."""
        if self._is_due or not self._queue or len(self._tasks) >= IN_FLIGHT:
            return
        loop = asyncio.get_running_loop()
        if self._items >= self._enough or not (self._tasks or self._pause):
            self._is_due = True
            loop.call_soon(self._send_next)
        elif not self._tasks:
            self._is_due = True
            loop.call_later(self._pause, self._send_next)
        elif self._timer is None:
            self._timer = loop.call_later(LONGEST_SECONDS, self._send_next)

    def _send_next(self) -> None:
        self._is_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._queue or len(self._tasks) >= IN_FLIGHT:
            return
        batch: list[G] = []
        items = size = 0
        while self._queue:
            first = self._queue[0]
            if batch and (items + first.items > self._most or size + first.size > MAX_BYTES):
                break
            batch.append(self._queue.popleft().group)
            items += first.items
            size += first.size
        self._items -= items
        self._pause = _pause(len(batch))
        self._start(batch)
        self._schedule()

    def _start(self, batch: list[G]) -> None:
        task = asyncio.ensure_future(self._send(batch))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        self._schedule()


def _pause(groups: int) -> float:
    """Return how long the next request waits after one of so many groups."""
    if groups < BUSY_GROUPS:
        return 0.0
    return min(max(PAUSE_SECONDS, groups * PAUSE_OF_A_GROUP), LONGEST_PAUSE_SECONDS)
