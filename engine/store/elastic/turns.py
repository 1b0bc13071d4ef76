"""Who touches the same documents goes in the order of coming."""

import asyncio
from collections.abc import Collection

Turn = asyncio.Future[None]


class Turns:
    """Queues by key, within one event loop. A cluster's versions stay what decides between processes."""

    def __init__(self) -> None:
        self._last: dict[str, asyncio.Future[None]] = {}

    async def enter(self, keys: Collection[str]) -> Turn:
        """Wait until all who came before for any of these keys are done; keeps out who comes after, until `leave`."""
        mine: Turn = asyncio.get_running_loop().create_future()
        # All keys are joined at once, without a wait between, so no two can wait for each other.
        before: set[Turn] = set()
        for key in keys:
            last = self._last.get(key)
            if last is not None:
                before.add(last)
            self._last[key] = mine
        before.discard(mine)
        if before:
            try:
                await asyncio.wait(before)
            except BaseException:
                # One who gives up waiting hands on only when those before it are done.
                self._leave_after(keys, mine, [one for one in before if not one.done()])
                raise
        return mine

    def leave(self, keys: Collection[str], mine: Turn) -> None:
        """Let the next one in."""
        mine.set_result(None)
        for key in keys:
            if self._last.get(key) is mine:
                del self._last[key]

    def _leave_after(self, keys: Collection[str], mine: Turn, still: list[Turn]) -> None:
        if not still:
            self.leave(keys, mine)
            return
        still.pop().add_done_callback(
            lambda _: self._leave_after(keys, mine, [one for one in still if not one.done()])
        )
