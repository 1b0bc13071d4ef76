"""Who touches the same documents goes in the order of coming."""

import asyncio
from collections.abc import Collection


class Turn:
    """One's turn at some keys; a future only once somebody waits for its end, which is rare."""

    __slots__ = ("_ended",)

    def __init__(self) -> None:
        self._ended: asyncio.Future[None] | None = None

    def ended(self) -> asyncio.Future[None]:
        """Return what is done when the turn is over; it is not yet."""
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_future()
        return self._ended

    def end(self) -> None:
        """Say that it is over."""
        if self._ended is not None:
            self._ended.set_result(None)


class Turns:
    """Queues by key, within one event loop. A cluster's versions stay what decides between processes."""

    def __init__(self) -> None:
        self._last: dict[str, Turn] = {}

    async def enter(self, keys: Collection[str]) -> Turn:
        """Wait until all who came before for any of these keys are done; keeps out who comes after, until `leave`."""
        mine = Turn()
        # All keys are joined at once, without a wait between, so no two can wait for each other.
        before: set[Turn] = set()
        for key in keys:
            last = self._last.get(key)
            if last is not None:
                before.add(last)
            self._last[key] = mine
        if before:
            before.discard(mine)
            waits = [one.ended() for one in before]
            try:
                if waits:
                    await asyncio.wait(waits)
            except BaseException:
                # One who gives up waiting hands on only when those before it are done.
                self._leave_after(keys, mine, [one for one in waits if not one.done()])
                raise
        return mine

    def leave(self, keys: Collection[str], mine: Turn) -> None:
        """Let the next one in."""
        mine.end()
        for key in keys:
            if self._last.get(key) is mine:
                del self._last[key]

    def _leave_after(self, keys: Collection[str], mine: Turn, still: list[asyncio.Future[None]]) -> None:
        if not still:
            self.leave(keys, mine)
            return
        still.pop().add_done_callback(
            lambda _: self._leave_after(keys, mine, [one for one in still if not one.done()])
        )
