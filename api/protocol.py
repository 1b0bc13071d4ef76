"""HTTP/1.1 with bounds on size and time of a head."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from headrace.api.problems import problem

MAX_HEAD_BYTES = 64 * 1024
MAX_HEAD_SECONDS = 10.0


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's protocol, which by itself waits for ever for the end of a head, of any size."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._waits_since: float | None = None
        self._in_head = False
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._waits_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; refuse a head that is too large."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head:
            if self._head_bytes > MAX_HEAD_BYTES and self._is_idle():
                self.refuse(
                    431, "head_too_large", f"The head of a request has at most {MAX_HEAD_BYTES} bytes."
                )
        elif self._waits_since is None and self.timeout_keep_alive_task is None and self._is_idle():
            # Bytes that are no request yet: the rest of a body that was refused before its end.
            self._waits_since = self.loop.time()

    def on_message_begin(self) -> None:
        """Begin a request: from here its head has a limit."""
        super().on_message_begin()
        self._in_head, self._head_bytes, self._waits_since = True, 0, self.loop.time()

    def on_headers_complete(self) -> None:
        """End the head."""
        self._in_head, self._waits_since = False, None
        super().on_headers_complete()

    def close_if_slow(self, now: float) -> None:
        """Hang up on who began a request and did not end its head in time."""
        if self._waits_since is not None and now - self._waits_since > MAX_HEAD_SECONDS and self._is_idle():
            self.transport.close()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self.refuse(400, "bad_http", msg)

    def refuse(self, status: int, code: str, detail: str) -> None:
        """Answer with a problem and hang up."""
        if self.transport.is_closing():
            return
        reply = problem(status, code, detail)
        headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body)), (b"connection", b"close")]
        lines = [STATUS_LINE[status], *(b"%s: %s\r\n" % header for header in headers), b"\r\n", reply.body]
        self.transport.write(b"".join(lines))
        self.transport.close()
