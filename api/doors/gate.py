"""How much may be under way at once, and how long."""

import asyncio

from headrace.engine.errors import BusyError
from headrace.engine.settings import Settings


class Gate:
    """Counts what is in flight and refuses what is too much; closed, it lets nothing new in."""

    __slots__ = ("bytes", "closed", "max_bytes", "max_requests", "requests", "slow_bodies")

    def __init__(self, settings: Settings) -> None:
        self.max_requests = settings.max_requests_in_flight
        self.max_bytes = settings.max_bytes_in_flight
        self.slow_bodies = SlowBodies(settings.body_timeout_seconds)
        self.requests = 0
        self.bytes = 0
        self.closed = False

    def enter(self) -> None:
        """Let a request in; raises BusyError when there is no room. Each `enter` needs a `leave`."""
        if self.closed:
            raise BusyError("The server is stopping. Nothing was kept; try again.", retry_after_seconds=5)
        if self.requests >= self.max_requests:
            raise BusyError("Too many requests are under way. Nothing was kept; try again.")
        self.requests += 1

    def hold(self, size: int) -> None:
        """Count bytes that a request holds; raises BusyError when they are too many."""
        if self.bytes + size > self.max_bytes:
            raise BusyError("Too many bytes are under way. Nothing was kept; try again.")
        self.bytes += size

    def leave(self, held: int) -> None:
        """Let a request out with all the bytes that it held."""
        self.requests -= 1
        self.bytes -= held


class SlowBodies:
    """Interrupts tasks that read a body for too long. One timer for all: one each costs as much as a small door.

    A task is interrupted between `seconds` and a tenth more after `begin`, and then finds `was_slow` true.
    """

    __slots__ = ("_ends", "_seconds", "_slow", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends: dict[asyncio.Task[object], float] = {}
        self._slow: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> asyncio.Task[object]:
        """Begin to count the time of the current task; returns it for `end`."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None  # noqa: S101 - a door runs in a task
        self._ends[task] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds / 10, self._look, loop)
        return task

    def end(self, task: asyncio.Task[object]) -> None:
        """Stop counting."""
        del self._ends[task]
        self._slow.discard(task)

    def was_slow(self, task: asyncio.Task[object]) -> bool:
        """Say whether it was we who interrupted a task; if so, the interruption is used up."""
        return task in self._slow and task.uncancel() == 0

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for task, end in self._ends.items():
            if end <= now and task not in self._slow:
                self._slow.add(task)
                task.cancel()
        if self._ends:
            self._timer = loop.call_later(self._seconds / 10, self._look, loop)
