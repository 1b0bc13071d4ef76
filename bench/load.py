"""Sends requests over keep-alive connections, in a process of its own.

Reads a plan from its standard input and writes what it measured to its standard output, both as JSON. Each connection
sends the next request when the answer to the last one is there.
"""

import asyncio
import json
import os
import random
import sys
from collections import deque
from time import perf_counter
from typing import Any, cast

import uvloop
import workload

Doc = dict[str, Any]

HEAD = (
    "POST /track HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAccept: */*\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36\r\n"
    "Content-Length: "
)


def request(body: bytes) -> bytes:
    """Return the bytes of a request."""
    return f"{HEAD}{len(body)}\r\n\r\n".encode() + body


def requests(plan: Doc) -> list[bytes]:
    """Return all requests of a plan, every other one with ids of events.

    They are of one named session, or of warm sessions and a share of new ones.
    """
    dice = random.Random(plan["seed"])
    made = []
    for number in range(plan["requests"]):
        if "session" in plan:
            session = plan["session"]
        elif plan["warm_up"]:
            session = f"session-{number}"
        elif dice.random() < plan["new"]:
            session = f"new-{plan['seed']}-{number}"
        else:
            session = f"session-{dice.randrange(plan['sessions'])}"
        made.append(request(workload.body(dice, session, plan["events"], with_ids=number % 2 == 0)))
    return made


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, left: deque[bytes], took: list[float], statuses: dict[str, int]) -> None:
        self.left = left
        self.took = took
        self.statuses = statuses
        self.done = asyncio.get_running_loop().create_future()
        self.received = b""
        self.sent = 0.0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self.transport = cast("asyncio.Transport", transport)
        self.next()

    def next(self) -> None:
        """Send a request, or end."""
        assert self.transport is not None  # noqa: S101 - for the type checker
        if self.left:
            self.sent = perf_counter()
            self.transport.write(self.left.popleft())
        else:
            self.done.set_result(None)
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer; when it is whole, go on."""
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self.took.append(perf_counter() - self.sent)
        status = head[9:12].decode()
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.received = b""
        self.next()

    def connection_lost(self, exc: Exception | None) -> None:
        """Say so when the server hung up."""
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))


async def send_all(plan: Doc) -> Doc:
    """Send the plan's requests and return what was measured: seconds, percentiles in ms, statuses."""
    left, took, statuses = deque(requests(plan)), list[float](), dict[str, int]()
    loop = asyncio.get_running_loop()
    began = perf_counter()
    clients = []
    for number in range(min(plan["connections"], len(left))):
        port = plan["ports"][number % len(plan["ports"])]
        _, client = await loop.create_connection(lambda: Client(left, took, statuses), "127.0.0.1", port)
        clients.append(client)
    await asyncio.wait_for(asyncio.gather(*(client.done for client in clients)), plan["timeout"])
    seconds = perf_counter() - began
    took.sort()
    return {
        "seconds": seconds,
        "p50": took[len(took) // 2] * 1000,
        "p99": took[len(took) * 99 // 100] * 1000,
        "statuses": statuses,
    }


def main() -> None:
    """Run plans, one a line, until the input ends."""
    if hasattr(os, "sched_setaffinity"):
        # The last processor is the client's; the server may take any.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for line in sys.stdin:
        print(json.dumps(uvloop.run(send_all(json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
