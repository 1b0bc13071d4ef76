"""HTTP/1.1 with bounds on a head, and no other protocol."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from headrace.api.problems import problem
from headrace.engine.model import new_id

MAX_HEAD_BYTES = 64 * 1024
MAX_HEAD_SECONDS = 10.0

LINGER_SECONDS = 2.0
"""How long is read on, and thrown away, after an answer to a request that was not read to its end."""

_NOT_HTTP = ("bad_http", "Invalid HTTP request received.")
_HEAD, _CONTINUE = b"HTTP/1.1 ", b"HTTP/1.1 100 "


class _Nowhere(list[tuple[bytes, bytes]]):
    """Takes trailers, which nobody reads: they must not become headers, nor fill the memory."""

    def append(self, _: tuple[bytes, bytes]) -> None:
        """Keep nothing."""


class WholeAnswers:
    """A transport that sends the head of an answer together with its body: one system call instead of two.

    `is_unread` says whether more of a request may come that was answered already. Who closes with bytes unread takes
    the answer back, so it is closed a little later then; `has_ended` says that nothing is read any more.
    """

    def __init__(self, transport: asyncio.Transport, is_unread: Callable[[], bool]) -> None:
        self._transport = transport
        self._is_unread = is_unread
        self._head = b""
        self.has_ended = False

    def write(self, data: bytes) -> None:
        """Keep a head until what follows it; send all else."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        elif data.startswith(_HEAD) and data.endswith(b"\r\n\r\n") and not data.startswith(_CONTINUE):
            self._head = data
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Send a head that nothing follows, as that of an answer to HEAD."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        """Send what is kept, then close."""
        if self.has_ended:
            return
        self.flush()
        if self._transport.is_closing() or not (self._is_unread() and self._transport.can_write_eof()):
            self._transport.close()
            return
        self.has_ended = True
        self._transport.write_eof()
        self._transport.resume_reading()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self._transport.close)

    def is_closing(self) -> bool:
        """Say whether nothing more is sent."""
        return self.has_ended or self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def send_unchunked(cycle: RequestResponseCycle) -> None:
    """Let the answer to one request end with the connection, where nothing says how long it is.

    uvicorn sends it in chunks, which a client of HTTP/1.0 does not know (RFC 9112, 6.1).
    """
    send, has_length = cycle.send, False

    async def sent(message: Any) -> None:
        nonlocal has_length
        if message["type"] == "http.response.start":
            has_length = any(name.lower() == b"content-length" for name, _ in message["headers"])
            cycle.chunked_encoding = None if has_length else False
        elif not has_length:
            # As long as it is: uvicorn compares with what was said.
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    cycle.send = sent  # type: ignore[method-assign]


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's protocol, which by itself waits for ever for the end of a head, of any size.

    A request that asks for another protocol is taken as if it had not asked, as RFC 9110 (7.8) allows: uvicorn loses
    the body of such a request, or reads it as the next one.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._waits_since: float | None = None
        self._in_head = False
        self._is_refused = False
        self._quiet_bytes = 0
        """Bytes since a request ended, its head did, or a part of its body came: what only the parser holds."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        self._answers = WholeAnswers(transport, self._is_unread)
        super().connection_made(cast("asyncio.Transport", self._answers))
        self._waits_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; refuse a head, or trailers, that are too large."""
        if self._answers.has_ended or self._is_refused:
            return
        self._quiet_bytes += len(data)
        self._unset_keepalive_if_required()
        self._feed(data)
        if self._in_head:
            if self._quiet_bytes > MAX_HEAD_BYTES and self._is_idle():
                self.refuse(
                    431, "head_too_large", f"The head of a request has at most {MAX_HEAD_BYTES} bytes."
                )
        elif self._quiet_bytes > MAX_HEAD_BYTES:
            self.transport.close()
        elif self._waits_since is None and self.timeout_keep_alive_task is None and self._is_idle():
            # Bytes that are no request yet: the rest of a body that was refused before its end.
            self._waits_since = self.loop.time()

    def _feed(self, data: bytes) -> None:
        """Give bytes to the parser; begin again, without the asking, where a head asks for another protocol."""
        rest: bytes | memoryview = data
        try:
            while True:
                try:
                    self.parser.feed_data(rest)
                    return
                except HttpParserUpgrade as stopped:
                    if self.parser.get_method() == b"CONNECT":
                        self._refuse_rest("no_tunnel", "This server is no proxy: CONNECT is not taken.")
                        return
                    rest = memoryview(rest)[stopped.args[0] :]
                    head = self._plain_head()
                    self.parser = HttpRequestParser(self)
                    self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                    self.parser.feed_data(head)
        except HttpParserError:
            self._refuse_rest(*_NOT_HTTP)

    def _plain_head(self) -> bytes:
        """Return the head that was just read, without the header `Upgrade`."""
        first = b"%s %s HTTP/%s" % (
            self.parser.get_method(), self.url, self.parser.get_http_version().encode(),
        )  # fmt: skip
        lines = [b"%s: %s" % (name, value) for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join((first, *lines, b"", b""))

    def on_message_begin(self) -> None:
        """Begin a request: from here its head has a limit."""
        super().on_message_begin()
        self._in_head, self._waits_since = True, self.loop.time()

    def on_headers_complete(self) -> None:
        """End the head. One that asks for another protocol is read once more: see `_feed`."""
        if self.parser.should_upgrade():
            return
        self._in_head, self._quiet_bytes, self._waits_since = False, 0, None
        super().on_headers_complete()
        self.headers = _Nowhere()
        if self.parser.get_http_version() == "1.0":
            send_unchunked(self.cycle)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._quiet_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the body."""
        self._quiet_bytes = 0
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """End an answer."""
        self._answers.flush()
        super().on_response_complete()
        if self._is_refused and not self.pipeline and self.cycle.more_body:
            # The next in turn is the one whose rest cannot be read.
            self.refuse(400, *_NOT_HTTP)

    def close_if_slow(self, now: float) -> None:
        """Hang up on who began a request and did not end its head in time."""
        if self._waits_since is not None and now - self._waits_since > MAX_HEAD_SECONDS and self._is_idle():
            self.transport.close()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _is_unread(self) -> bool:
        """Say whether more may come of a request that was answered, or refused."""
        return self._is_idle() and (self._is_refused or (self.cycle is not None and self.cycle.more_body))

    def _refuse_rest(self, code: str, detail: str) -> None:
        """Read no more. Whole requests that came before are answered first: they may be kept by now.

        The last of them is told that the connection closes, and no 400 follows it: a client that sent too much after
        its body would take that for the answer to its next request.
        """
        self._is_refused = True
        if self._is_idle() or (self.cycle.more_body and not self.pipeline):
            self.refuse(400, code, detail)
        elif not self.cycle.more_body:
            self.cycle.keep_alive = False

    def refuse(self, status: int, code: str, detail: str) -> None:
        """Answer with a problem and hang up."""
        if self.transport.is_closing():
            return
        reply = problem(status, code, detail)
        headers = [
            *reply.headers,
            (b"content-length", b"%d" % len(reply.body)),
            (b"x-request-id", new_id().encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"connection", b"close"),
        ]
        lines = [STATUS_LINE[status], *(b"%s: %s\r\n" % header for header in headers), b"\r\n", reply.body]
        self.transport.write(b"".join(lines))
        self._is_refused = True
        self.transport.close()
