"""Names to addresses, each of which may be called."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from threading import Thread

from headrace.engine.calls.address import Rules, literal
from headrace.engine.errors import CallError

Lookup = Callable[[str, int], Awaitable[list[str]]]
"""Gives the addresses of a name, as texts; raises OSError when there are none."""

THREADS = 16
"""Names looked up at once. Each waits in a thread, and a name takes one only, however many ask for it."""


class Threads:
    """Looks names up as the system does, in threads of its own: a slow name keeps no other work waiting.

    They are daemons, or a name that does not answer would keep the process from ending.
    """

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(THREADS)
        self._pending: dict[tuple[str, int], asyncio.Task[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host; raises OSError when there are none."""
        place = (host, port)
        found = self._pending.get(place)
        if found is None:
            found = self._pending[place] = asyncio.create_task(self._ask(host, port))
            found.add_done_callback(lambda done: self._forget(place, done))
        # Whoever asked first may give up before the others.
        return await asyncio.shield(found)

    async def _ask(self, host: str, port: int) -> list[str]:
        async with self._free:
            loop = asyncio.get_running_loop()
            answer: asyncio.Future[list[str]] = loop.create_future()
            Thread(target=_answer, args=(loop, answer, host, port), name="names", daemon=True).start()
            return await answer

    def _forget(self, place: tuple[str, int], done: asyncio.Future[list[str]]) -> None:
        del self._pending[place]
        if not done.cancelled():
            # If nobody waits any more, an error is none.
            done.exception()

    def close(self) -> None:
        """Wait for no name any more."""
        for task in self._pending.values():
            task.cancel()


def _answer(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[list[str]], host: str, port: int) -> None:
    """Look a name up in a thread, and tell the loop, if it is still there."""
    try:
        found: list[str] | Exception = _look_up(host, port)
    except (OSError, UnicodeError) as error:
        found = error

    def tell() -> None:
        if answer.done():
            return
        if isinstance(found, Exception):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    with suppress(RuntimeError):
        loop.call_soon_threadsafe(tell)


def _look_up(host: str, port: int) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


async def checked_addresses(rules: Rules, lookup: Lookup, host: str, port: int) -> list[str]:
    """Return the addresses of a host. Raises CallError when one of them, even if only one, may not be called."""
    texts = await lookup(host, port)
    for text in texts:
        address = literal(text)
        if address is None:
            raise CallError(f"refused: {host} has the address {text}, which cannot be read")
        rules.check(host, port, address)
    return list(dict.fromkeys(texts))
