"""Runs the app on uvicorn: binding, stopping in order, exit codes."""

import asyncio
import errno
import gc
import math
import os
import socket
import sys
from collections.abc import Callable
from types import FrameType

import structlog
import uvicorn
import uvloop

from headrace.api.app import build_app
from headrace.api.doors.call import App
from headrace.api.doors.gate import Gate
from headrace.api.needs import EngineNeeds
from headrace.api.protocol import BoundedHttp
from headrace.api.tokens import NO_TOKEN, Tokens, load_tokens, weak_tokens
from headrace.engine.settings import Settings
from headrace.engine.variables import SettingsError

ENDED_AT_ONCE = 1
"""The exit code after a second signal: requests that were under way got no answer."""
KEEP_ALIVE_SECONDS = 65
"""Longer than the 60 seconds of most proxies, so that it is they who close an idle connection."""
TICKS_A_SECOND = 10
NEW_OBJECTS_A_ROUND = 200_000
"""How many more objects there must be before the garbage collector looks at the young ones."""


class Server(uvicorn.Server):
    """uvicorn, with our way to stop: the first signal lets requests finish, the second ends at once."""

    def __init__(self, config: uvicorn.Config, gate: Gate, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._gate = gate
        self._ready = ready

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Take a signal to stop."""
        if self.should_exit:
            sys.stderr.flush()
            os._exit(ENDED_AT_ONCE)
        self._gate.closed = True
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        """Do what is due ten times a second; hang up on slow heads once a second."""
        if counter % TICKS_A_SECOND == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, BoundedHttp):
                    connection.close_if_slow(now)
        return await super().on_tick(counter)


def bind(settings: Settings) -> list[socket.socket]:
    """Return sockets on the address of the settings. Raises SettingsError that says what to do."""
    host, port = settings.host, settings.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise SettingsError([f"HEADRACE_HOST={host}: the name has no address ({error.strerror})."]) from None
    sockets: list[socket.socket] = []
    for family, kind, protocol, _, address in found:
        taken = socket.socket(family, kind, protocol)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # With port 0 all families take the port that the first one got.
        place = (address[0], port or (sockets[0].getsockname()[1] if sockets else 0), *address[2:])
        try:
            taken.bind(place)
        except OSError as error:
            taken.close()
            if error.errno == errno.EADDRNOTAVAIL and len(found) > 1:
                continue
            for other in sockets:
                other.close()
            raise SettingsError([_why_not(error, host, port)]) from None
        sockets.append(taken)
    if not sockets:
        raise SettingsError([_why_not(OSError(errno.EADDRNOTAVAIL, ""), host, port)])
    return sockets


def _why_not(error: OSError, host: str, port: int) -> str:
    where, other = f"{host}:{port}", "choose another port with --port or HEADRACE_PORT"
    match error.errno:
        case errno.EADDRINUSE:
            return f"{where} is in use by another program: stop it, or {other}."
        case errno.EACCES | errno.EPERM:
            return (
                f"{where}: ports below 1024 need a privilege that this user has not: {other}, such as 8080."
            )
        case errno.EADDRNOTAVAIL:
            return (
                f"{where}: this machine has no such address. 127.0.0.1 is itself, 0.0.0.0 all its addresses."
            )
    return f"{where}: cannot be listened on ({error.strerror})."


def serve(engine: EngineNeeds, settings: Settings, ready: Callable[[str], None] | None = None) -> int:
    """Serve until a signal, then let requests finish, flush, and return the exit code.

    `ready` is called with the address once requests are taken.
    Raises SettingsError when the address cannot be listened on, or there is no token and none can be made.
    """
    tokens = load_tokens(settings)
    sockets = bind(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(engine, tokens, sockets, ready))


async def _serve(
    engine: EngineNeeds,
    tokens: Tokens,
    sockets: list[socket.socket],
    ready: Callable[[str], None] | None,
) -> int:
    settings = engine.settings
    log = structlog.stdlib.get_logger("headrace.server")
    gate = Gate(settings)

    def listening() -> None:
        log.info("listening", address=_address(sockets[0]))
        if tokens.made is not None:
            _show_token(tokens)
        if ready is not None:
            ready(_address(sockets[0]))

    for reason in weak_tokens(settings):
        log.warning("weak token", reason=reason)
    if tokens.admin is None:
        log.warning("no admin token", reason=NO_TOKEN)
    config = _config(build_app(engine, tokens, gate), settings)
    try:
        await engine.start()
        spare_collector()
        await Server(config, gate, listening).serve(sockets)
    finally:
        await engine.stop()
    if gate.requests:
        log.error("stopped with requests unanswered", requests=gate.requests)
    log.info("stopped")
    return 0


def spare_collector() -> None:
    """Look for garbage less often, and not among what was loaded for good.

    A request leaves nearly no cycles behind, yet by default the collector goes through the events of a batch many
    times while they are worked on: that is a fifth of the batch's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS_A_ROUND, 20, 20)


def _config(app: App, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=BoundedHttp,
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_config=None,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(settings.stop_grace_seconds),
    )


def _show_token(tokens: Tokens) -> None:
    """Say once where the new token is; the token itself is for a person's eyes, not for a log."""
    if sys.stderr.isatty():
        sys.stderr.write(f"Admin token, made now and kept in {tokens.made}: {tokens.admin}\n")
    else:
        structlog.stdlib.get_logger("headrace.server").info("admin token made", file=str(tokens.made))


def _address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
