"""A receiver of webhooks that is down, slow, or lies, when a test wants it to."""

import asyncio
import json
import random
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tests.parts.ports import free_port

Doc = dict[str, Any]

MOODS = ("well", "drops", "slow", 500, 503, 429, 409)
"""How a call may be answered: as it should be, not at all after it was taken, late, or with a lie."""

SLOW_SECONDS = 0.3


class Receiver:
    """Serves in a thread of its own and remembers every call that it read whole: its headers and its body."""

    def __init__(self, seed: int = 1) -> None:
        self.port = free_port()
        self.calls: list[tuple[Doc, Doc]] = []
        self.faults: list[Exception] = []
        self.bad_share = 0.0
        self.answer: int | None = None
        self._dice = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="receiver", daemon=True)
        self._thread.start()
        self.up()

    @property
    def url(self) -> str:
        """The address to call."""
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        """Listen."""
        self._run(self._up())

    def down(self) -> None:
        """Listen no more, and hang up."""
        self._run(self._down())

    def close(self) -> None:
        """End it."""
        self.down()
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def by_event(self) -> dict[str, list[tuple[Doc, Doc]]]:
        """Return the calls by the event that their body names."""
        found = defaultdict(list)
        for headers, body in list(self.calls):
            found[str(body["event"])].append((headers, body))
        return found

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _up(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _down(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            # First accept no more, then close: asyncio loses a connection that comes in the turn of the close.
            self._loop.remove_reader(server.sockets[0].fileno())
            await asyncio.sleep(0.01)
            server.close()
        # What was accepted just now becomes a connection in the next turns.
        for _ in range(3):
            for writer in list(self._connections):
                writer.transport.abort()
            await asyncio.sleep(0.01)

    async def _end(self) -> None:
        """Let every task, those too that asyncio has for a connection that just comes, hang up."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            with suppress(OSError, EOFError):
                while await self._one(reader, writer):
                    pass
        except Exception as error:  # noqa: BLE001 - the test tells
            self.faults.append(error)
        finally:
            self._connections.discard(writer)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        pairs = (line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        headers = {name.lower(): value for name, value in pairs}
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        headers["raw"] = raw.decode()
        self.calls.append((headers, json.loads(raw)))
        status = self.answer or 200
        if self._dice.random() < self.bad_share:
            mood = self._dice.choice(MOODS)
            if mood == "drops":
                return False
            if mood == "slow":
                await asyncio.sleep(SLOW_SECONDS)
            if isinstance(mood, int):
                status = mood
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n".encode())
        await writer.drain()
        return True


@contextmanager
def receiving(seed: int = 1) -> Iterator[Receiver]:
    """Give a receiver that is well."""
    receiver = Receiver(seed)
    try:
        yield receiver
    finally:
        receiver.close()
