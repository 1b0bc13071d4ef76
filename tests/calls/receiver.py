"""A server on loopback that notes every connection and request, and answers as a test says."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Got:
    """One request that came in; names of headers in small letters."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Answers = Callable[[Got, asyncio.StreamWriter], Awaitable[None]]


def plain(body: bytes = b"{}", status: int = 200, **headers: str) -> bytes:
    """Return an answer whole; `_` in a header's name is `-`."""
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Said\r\ncontent-length: {len(body)}\r\n{more}\r\n".encode() + body


def always(answer: bytes) -> Answers:
    """Answer every request alike."""

    async def say(_: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    return say


@dataclass
class Receiver:
    """What came in, and where."""

    port: int
    answers: Answers
    scheme: str = "http"
    connections: int = 0
    requests: list[Got] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its URL, without a slash at the end."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def place(self) -> str:
        """Its address and port, as the setting that opens it names them."""
        return f"127.0.0.1:{self.port}"

    def keys(self) -> list[str]:
        """The idempotency keys that came in."""
        return [got.headers["idempotency-key"] for got in self.requests]


async def _read(reader: asyncio.StreamReader) -> Got:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {}
    for line in filter(None, lines):
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Got(method, target, headers, body)


@asynccontextmanager
async def receiving(
    answers: Answers | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """Run a receiver; what it was doing when it ends is given up."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        receiver.connections += 1
        try:
            while True:
                got = await _read(reader)
                receiver.requests.append(got)
                await receiver.answers(got, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError, ValueError):
            pass
        finally:
            writer.close()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    receiver = Receiver(port, answers or always(plain()), "https" if tls else "http")
    try:
        yield receiver
    finally:
        server.close()
        for task in [*tasks]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
