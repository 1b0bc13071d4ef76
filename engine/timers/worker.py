"""Fires timers whose time has come, many at the same time."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta

from headrace.engine.crash import crash_point
from headrace.engine.errors import BusyError, HeadraceError, StoreError
from headrace.engine.logs import logger
from headrace.engine.model import Doc, iso, utc_now
from headrace.engine.parts import Parts
from headrace.engine.store.protocol import Leased

POLL_SECONDS = 1.0
"""How long a timer may be due before it is seen."""

AT_ONCE = 64
"""Timers that are fired at the same time; fewer than may wait for one profile."""

GATHER_SECONDS = 0.003
STOP_SECONDS = 12.0

OTHERS_SECONDS = 60.0
AWAY_SECONDS = 5.0
BUSY_SECONDS = 1.0
FIRST_DELAY_SECONDS = 2.0
LONGEST_DELAY_SECONDS = 3600.0
MOST_TRIES = 35
"""How often a timer that cannot be fired is tried, a day in all, before it is given up."""

Fires = Callable[[Parts, Leased, datetime], Awaitable[Doc]]
"""Does what a timer of one kind is for, at a time. Returns the document to keep in its place: with the status `pending`
it comes again when it says it is `due`, which is how long work goes on part by part. What it does must be harmless to
do twice, since a worker may die before the document is kept. Raises StoreError, BusyError: it comes again."""


class TimerWorker:
    """Claims timers under leases and fires them; `kinds` has a function for each `kind` of timer document.

    Several workers, in several processes, share the work.
    """

    def __init__(
        self, parts: Parts, kinds: Mapping[str, Fires], clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._parts = parts
        self._kinds = kinds
        self._clock = clock
        self._running: set[asyncio.Task[None]] = set()
        self._claimed = 0
        self._away = False
        self._ended: list[tuple[Leased, Doc]] = []
        self._writing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Fire what is due, for ever."""
        bell = self._parts.wakes.timers
        while True:
            bell.clear()
            if await self._claim():
                await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await bell.wait()

    async def fire_due(self) -> int:
        """Fire all that is due now, and wait for it; returns how many timers were claimed."""
        before = self._claimed
        while await self._claim() or self._running:
            if self._running:
                await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        return self._claimed - before

    async def stop(self) -> None:
        """Let what is being fired come to its end; what takes too long is done again by another worker."""
        if self._running:
            await asyncio.wait(self._running, timeout=STOP_SECONDS)
        for task in self._running:
            task.cancel()

    async def _claim(self) -> bool:
        """Begin to fire as many as may be at once; returns whether there may be more: others may be at work, too."""
        room = AT_ONCE - len(self._running)
        if not room:
            return True
        try:
            lease = self._parts.settings.timers_lease_seconds
            claimed = await self._parts.store.claim_due("timer", room, lease, self._clock())
        except (StoreError, BusyError) as error:
            if not self._away:
                logger().warning("timers not claimed", error=str(error))
            self._away = True
            return False
        # The edge of the task: whatever went wrong, the next look tries again.
        except Exception:  # noqa: BLE001
            logger().exception("timers not claimed")
            return False
        self._away = False
        self._claimed += len(claimed)
        for leased in claimed:
            crash_point("timers.claimed")
            task = asyncio.create_task(self._fire(leased))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return bool(claimed)

    async def _fire(self, leased: Leased) -> None:
        try:
            doc = await self._try(leased)
            self._ended.append((leased, doc))
            crash_point("timers.committed")
            # What ends within a moment is written at once, for it costs hardly more than one.
            writing = self._writing = self._writing or asyncio.create_task(self._write())
            await asyncio.shield(writing)
            crash_point("timers.done")
        except (StoreError, BusyError) as error:
            # Nothing is lost: it comes again when the lease ends.
            logger().warning("timer not done", timer=leased.key, error=str(error))
        # The edge of the task, as above.
        except Exception:  # noqa: BLE001
            logger().exception("timer not done", timer=leased.key)

    async def _write(self) -> None:
        await asyncio.sleep(GATHER_SECONDS)
        batch, self._ended, self._writing = self._ended, [], None
        written = await self._parts.store.done_many("timer", batch)
        for (_, doc), is_ours in zip(batch, written, strict=True):
            if is_ours:
                self._parts.metrics.timer(str(doc.get("status")))

    async def _try(self, leased: Leased) -> Doc:
        """Return what a timer is to be kept as, after it was fired or could not be."""
        now = self._clock()
        fires = self._kinds.get(str(leased.doc.get("kind")))
        if fires is None:
            # Of a newer version, whose worker will come.
            return put_off(leased.doc, now, OTHERS_SECONDS)
        try:
            return await fires(self._parts, leased, now)
        except BusyError:
            return put_off(leased.doc, now, BUSY_SECONDS)
        except StoreError as error:
            # What could not be written now, or read, can be soon; if even this cannot be written, the lease ends.
            logger().warning("timer put off", timer=leased.key, error=str(error))
            return put_off(leased.doc, now, AWAY_SECONDS)
        except HeadraceError as error:
            logger().error("timer not fired", timer=leased.key, error=str(error))
            return failed(leased.doc, now, str(error))
        # The edge to what a kind of timer does.
        except Exception as error:  # noqa: BLE001
            logger().exception("timer failed", timer=leased.key)
            return failed(leased.doc, now, f"{type(error).__name__}: {error}")


def put_off(doc: Doc, now: datetime, seconds: float) -> Doc:
    """Return a timer that is due again after some seconds."""
    return doc | {"status": "pending", "due": iso(now + timedelta(seconds=seconds))}


def failed(doc: Doc, now: datetime, reason: str) -> Doc:
    """Return a timer that could not be fired: it is tried again, each time later, and given up in the end."""
    tries = int(doc.get("tries") or 0) + 1
    told = doc | {"tries": tries, "error": reason[:500]}
    if tries >= MOST_TRIES:
        return told | {"status": "dead", "ended": iso(now)}
    return put_off(told, now, min(FIRST_DELAY_SECONDS * 2 ** (tries - 1), LONGEST_DELAY_SECONDS))
