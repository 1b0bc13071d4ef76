"""A proxy in front of a server that goes wrong on request."""

import asyncio
import re
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import h11

from tests.parts.ports import free_port
from tests.parts.wire import Closed, Reply, Request, Wire

T = TypeVar("T")
Fault = Callable[["Exchange"], Coroutine[Any, Any, None]]
"""What is done with one request instead of passing it on; see `tests.parts.faults`."""

START_SECONDS = 10.0


@dataclass
class Seen:
    """One request that came in."""

    method: str
    target: str
    faulty: bool
    forwarded: bool = False
    status: int | None = None
    """What the client was answered; None when it was not."""


@dataclass
class Rule:
    """Which requests a fault is for; `hits` counts those that it took."""

    fault: Fault
    method: str | None = None
    path: re.Pattern[str] | None = None
    when: Callable[[Request], bool] | None = None
    skip: int = 0
    times: int | None = None
    hits: int = 0
    _hit: threading.Event = field(default_factory=threading.Event)

    def takes(self, request: Request) -> bool:
        """Say whether the fault is for this request, and count it."""
        if self.method not in {None, request.method} or (self.path and not self.path.search(request.path)):
            return False
        if (self.when and not self.when(request)) or (self.times is not None and self.hits >= self.times):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.hits += 1
        self._hit.set()
        return True

    def wait(self, seconds: float = 10) -> None:
        """Wait until the fault took a request. Raises AssertionError when none came."""
        assert self._hit.wait(seconds), f"no request came to the fault within {seconds} s"


class Upstream:
    """The connection to the real server, opened when it is needed."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._wire: Wire | None = None

    async def forward(self, request: Request) -> Reply:
        """Send a request and return the reply. Raises Closed or OSError."""
        if self._wire is None or self._wire.reader.at_eof():
            self.close()
            self._wire = Wire(h11.CLIENT, *await asyncio.open_connection(*self._address))
        await self._wire.send_request(request)
        reply = await self._wire.receive_reply()
        try:
            self._wire.next_message()
        except Closed:
            self.close()
        return reply

    def close(self) -> None:
        """Close it."""
        if self._wire is not None:
            self._wire.writer.close()
            self._wire = None


@dataclass
class Exchange:
    """One request on its way, in the hands of a fault."""

    request: Request
    client: Wire
    upstream: Upstream
    released: asyncio.Event
    seen: Seen

    async def forward(self, request: Request | None = None) -> Reply:
        """Pass the request on, or another one for it, and return the reply."""
        self.seen.forwarded = True
        return await self.upstream.forward(request or self.request)

    async def reply(self, reply: Reply) -> None:
        """Answer the client."""
        self.seen.status = reply.status
        await self.client.send_reply(reply)

    async def hang(self) -> None:
        """Wait until the client leaves or the proxy is cleared; raises Closed then."""
        waiting = [
            asyncio.create_task(each) for each in (self.client.wait_until_left(), self._until_released())
        ]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        raise Closed

    async def _until_released(self) -> None:
        await self.released.wait()


async def pass_on(exchange: Exchange) -> None:
    """Forward and reply: what is done without a fault."""
    await exchange.reply(await exchange.forward())


class FaultProxy:
    """Listens on a port of the loopback, in a thread of its own, and passes requests on to a server.

    All methods may be called from any thread. `port` stays the same for its whole life.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._rules: list[Rule] = []
        self._seen: list[Seen] = []
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: asyncio.Server | None = None
        self._ending = asyncio.Event()
        self._released = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._up: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)
        self.port = 0

    @property
    def host(self) -> str:
        """Where it listens, as host:port."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it."""
        self._thread.start()
        self._up.result(START_SECONDS)
        return self

    def stop(self) -> None:
        """End it with all its connections."""
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join(START_SECONDS)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def on(
        self,
        fault: Fault,
        *,
        method: str | None = None,
        path: str | None = None,
        when: Callable[[Request], bool] | None = None,
        skip: int = 0,
        times: int | None = None,
    ) -> Rule:
        """Have a fault for requests that match: method, a regular expression in the path, a predicate.

        The first `skip` of them pass, the `times` after these are faulty (None: all). The first rule that takes a
        request has it.
        """
        rule = Rule(fault, method, re.compile(path) if path else None, when, skip, times)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Forget all faults, close what hangs, and listen again."""
        with self._lock:
            self._rules.clear()
        self._call(self._release())
        self.accept()

    def refuse(self) -> None:
        """Refuse connections, and break those that are open, as a server that is gone."""
        self._call(self._refuse())

    def accept(self) -> None:
        """Take connections again."""
        self._call(self._accept())

    def seen(self, method: str | None = None, path: str = "") -> list[Seen]:
        """Return the requests that came in, oldest first; `path` is a regular expression."""
        with self._lock:
            every = list(self._seen)
        return [
            one
            for one in every
            if method in {None, one.method} and re.search(path, one.target.partition("?")[0])
        ]

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None, "the proxy is not started"
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(START_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except OSError as error:
            self._up.set_exception(error)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._accept()
        self._up.set_result(None)
        await self._ending.wait()
        await self._refuse()

    async def _accept(self) -> None:
        if self._listener is None:
            # The same port after a refusal: SO_REUSEADDR is asyncio's default.
            self._listener = await asyncio.start_server(
                self._serve, "127.0.0.1", self.port or free_port(), family=socket.AF_INET
            )
            self.port = self._listener.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for writer in list(self._writers):
            writer.transport.abort()

    async def _release(self) -> None:
        self._released.set()
        self._released = asyncio.Event()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Wire(h11.SERVER, reader, writer)
        upstream = Upstream(*self._target)
        self._writers.add(writer)
        try:
            # A protocol error is a client that left in the middle.
            with suppress(Closed, OSError, h11.ProtocolError, asyncio.CancelledError):
                while True:
                    await self._answer(await client.receive_request(), client, upstream)
                    client.next_message()
        finally:
            self._writers.discard(writer)
            upstream.close()
            writer.close()

    async def _answer(self, request: Request, client: Wire, upstream: Upstream) -> None:
        with self._lock:
            rule = next((rule for rule in self._rules if rule.takes(request)), None)
            seen = Seen(request.method, request.target, faulty=rule is not None)
            self._seen.append(seen)
        fault = rule.fault if rule else pass_on
        await fault(Exchange(request, client, upstream, self._released, seen))
