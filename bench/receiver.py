"""The least receiver of webhooks: counts them, and their keys.

A process of its own, which prints its port. Answers every POST with 200 at once, or never with `--hang`; a GET is
answered with what was counted.
"""

import argparse
import asyncio
import json
import re
from time import perf_counter
from typing import cast

import uvloop

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
KEY = re.compile(rb"\r\nidempotency-key: *(\S+)", re.IGNORECASE)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


class Counted:
    """What came until now; `first` and `last` are of the process's clock."""

    def __init__(self, *, hang: bool) -> None:
        self.hang = hang
        self.calls = 0
        self.keys: set[bytes] = set()
        self.first = 0.0
        self.last = 0.0

    def take(self, head: bytes) -> None:
        """Count a call."""
        self.last = perf_counter()
        self.first = self.first or self.last
        self.calls += 1
        found = KEY.search(head)
        if found:
            self.keys.add(found[1])

    def told(self) -> bytes:
        """Return an answer that says what was counted."""
        seconds = self.last - self.first
        body = json.dumps({"calls": self.calls, "keys": len(self.keys), "seconds": seconds}).encode()
        return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class Receiver(asyncio.Protocol):
    """One connection."""

    def __init__(self, counted: Counted) -> None:
        self.counted = counted
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        self.received = data = self.received + data if self.received else data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            length = LENGTH.search(data, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(data) < whole:
                break
            self._answer(data[:end])
            data = data[whole:]
        self.received = data

    def _answer(self, head: bytes) -> None:
        if head.startswith(b"GET"):
            self.transport.write(self.counted.told())
            return
        self.counted.take(head)
        if not self.counted.hang:
            self.transport.write(OK)


async def receive(*, hang: bool) -> None:
    """Serve until the process is ended."""
    counted = Counted(hang=hang)
    server = await asyncio.get_running_loop().create_server(lambda: Receiver(counted), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hang", action="store_true", help="never answer")
    uvloop.run(receive(hang=parser.parse_args().hang))


if __name__ == "__main__":
    main()
