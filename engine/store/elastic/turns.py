"""Who touches the same documents goes in the order of coming."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager


class Turns:
    """Queues by key, within one event loop. A cluster's versions stay what decides between processes."""

    def __init__(self) -> None:
        self._last: dict[str, asyncio.Future[None]] = {}

    @asynccontextmanager
    async def of(self, keys: Collection[str]) -> AsyncIterator[None]:
        """Wait until all who came before for any of these keys are done; keeps out who comes after."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # All keys are joined at once, without a wait between, so no two can wait for each other.
        before = {last for key in keys if (last := self._last.get(key)) is not None}
        for key in keys:
            self._last[key] = mine
        try:
            if before:
                await asyncio.wait(before)
            yield
        finally:
            self._leave(keys, mine, [one for one in before if not one.done()])

    def _leave(
        self, keys: Collection[str], mine: asyncio.Future[None], still: list[asyncio.Future[None]]
    ) -> None:
        """Let the next one in; one who gives up waiting hands on only when those before it are done."""
        if still:
            still.pop().add_done_callback(
                lambda _: self._leave(keys, mine, [one for one in still if not one.done()])
            )
            return
        mine.set_result(None)
        for key in keys:
            if self._last.get(key) is mine:
                del self._last[key]
