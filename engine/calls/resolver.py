"""Names to addresses, each of which may be called."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from headrace.engine.calls.address import Rules, literal
from headrace.engine.errors import CallError

Lookup = Callable[[str, int], Awaitable[list[str]]]
"""Gives the addresses of a name, as texts; raises OSError when there are none."""

THREADS = 16
"""Names looked up at once. Each waits in a thread, and a name takes one only, however many ask for it."""


class Threads:
    """Looks names up as the system does, in threads of its own: a slow name keeps no other work waiting."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "names")
        self._pending: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host; raises OSError when there are none."""
        place = (host, port)
        found = self._pending.get(place)
        if found is None:
            loop = asyncio.get_running_loop()
            found = self._pending[place] = loop.run_in_executor(self._threads, _look_up, host, port)
            found.add_done_callback(lambda done: self._forget(place, done))
        return await asyncio.shield(found)

    def _forget(self, place: tuple[str, int], done: asyncio.Future[list[str]]) -> None:
        del self._pending[place]
        if not done.cancelled():
            # Whoever asked may have gone: an error that nobody takes is none.
            done.exception()

    def close(self) -> None:
        """End the threads, without waiting for a name that does not answer."""
        self._threads.shutdown(wait=False, cancel_futures=True)


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
