"""HTTP/1.1 messages over asyncio streams, for the proxy of the tests."""

import asyncio
from dataclasses import dataclass, replace
from typing import Self

import h11

CHUNK = 1 << 16
Headers = tuple[tuple[bytes, bytes], ...]


class Closed(Exception):  # noqa: N818
    """A connection ends here: the other side left, or a fault closes it."""


@dataclass(frozen=True)
class Request:
    """One request, whole."""

    method: str
    target: str
    headers: Headers
    body: bytes

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def header(self, name: str) -> str:
        """Return a header's value, or an empty text."""
        return value_of(self.headers, name)

    def changed(self, body: bytes, *without: str, target: str | None = None) -> Self:
        """Return it with another body, without the named headers."""
        headers = (*dropped(self.headers, "content-length", "transfer-encoding", *without), length_of(body))
        return replace(self, body=body, headers=headers, target=target or self.target)


@dataclass(frozen=True)
class Reply:
    """One reply, whole."""

    status: int
    headers: Headers
    body: bytes

    def changed(self, body: bytes) -> Self:
        """Return it with another body."""
        return replace(self, body=body, headers=framed(self.headers, body))


def value_of(headers: Headers, name: str) -> str:
    """Return a header's value, or an empty text. h11 gives names in lower case."""
    return next((value.decode("latin-1") for key, value in headers if key == name.encode()), "")


def dropped(headers: Headers, *names: str) -> Headers:
    """Return headers without some."""
    gone = {name.encode() for name in names}
    return tuple((name, value) for name, value in headers if name not in gone)


def length_of(body: bytes) -> tuple[bytes, bytes]:
    """Return the header that tells the length of a body."""
    return b"content-length", str(len(body)).encode()


def framed(headers: Headers, body: bytes) -> Headers:
    """Return headers whose length is the body's."""
    return (*dropped(headers, "content-length", "transfer-encoding"), length_of(body))


class Wire:
    """One side of the proxy: whole messages in, whole messages out."""

    def __init__(
        self, role: type[h11.CLIENT | h11.SERVER], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ):
        self.reader = reader
        self.writer = writer
        self._state = h11.Connection(role)

    async def receive_request(self) -> Request:
        """Return the next request. Raises Closed at the end of the connection."""
        head, body = await self._receive()
        if not isinstance(head, h11.Request):
            raise Closed
        return Request(head.method.decode(), head.target.decode("latin-1"), tuple(head.headers), body)

    async def receive_reply(self) -> Reply:
        """Return the reply to the request that was sent. Raises Closed when the connection ends before it is whole."""
        head, body = await self._receive()
        if not isinstance(head, h11.Response):
            raise Closed
        return Reply(head.status_code, tuple(head.headers), body)

    async def send_request(self, request: Request) -> None:
        """Send a request."""
        head = h11.Request(method=request.method, target=request.target, headers=list(request.headers))
        await self._send(head, request.body)

    async def send_reply(self, reply: Reply) -> None:
        """Send a reply."""
        await self._send(h11.Response(status_code=reply.status, headers=list(reply.headers)), reply.body)

    async def send_half(self, reply: Reply) -> None:
        """Send the head of a reply, which promises all of it, and the first half of its body."""
        head = h11.Response(status_code=reply.status, headers=list(framed(reply.headers, reply.body)))
        half = h11.Data(data=reply.body[: len(reply.body) // 2])
        self.writer.write((self._state.send(head) or b"") + (self._state.send(half) or b""))
        await self.writer.drain()

    async def wait_until_left(self) -> None:
        """Return when the other side has closed the connection."""
        while received := await self.reader.read(CHUNK):
            self._state.receive_data(received)

    def next_message(self) -> None:
        """Make ready for the next message. Raises Closed when the connection is not kept alive."""
        if self._state.our_state is not h11.DONE or self._state.their_state is not h11.DONE:
            raise Closed
        self._state.start_next_cycle()

    async def _receive(self) -> tuple[h11.Event | None, bytes]:
        head: h11.Event | None = None
        body: list[bytes] = []
        while True:
            event = self._state.next_event()
            if event is h11.NEED_DATA:
                self._state.receive_data(await self.reader.read(CHUNK))
            elif isinstance(event, h11.Request | h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return head, b"".join(body)
            elif event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                raise Closed

    async def _send(self, head: h11.Request | h11.Response, body: bytes) -> None:
        out = self._state.send(head) or b""
        if body:
            out += self._state.send(h11.Data(data=body)) or b""
        self.writer.write(out + (self._state.send(h11.EndOfMessage()) or b""))
        await self.writer.drain()
