"""The ASGI app: doors first, then the router for everything else."""

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any
from urllib.parse import unquote

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headrace.api.bodies import UNREAD, Bodies
from headrace.api.doors.call import App, ClientGoneError, Receive, Scope, Send
from headrace.api.doors.doors import CLIENT_GONE, Doors
from headrace.api.doors.gate import Gate
from headrace.api.effects import Effects
from headrace.api.failed import Failed
from headrace.api.needs import EngineNeeds
from headrace.api.operations import Operations
from headrace.api.pages import Pages
from headrace.api.paths import Path
from headrace.api.problems import Reply, internal, method_not_allowed, not_found, problem, problem_for
from headrace.api.profiles import Profiles
from headrace.api.reading import Reading
from headrace.api.routes import ROUTES
from headrace.api.segments import Segments
from headrace.api.timers import Timers
from headrace.api.tokens import Level, Tokens
from headrace.engine.errors import HeadraceError
from headrace.engine.metrics import Metrics
from headrace.engine.model import new_id

Endpoint = Callable[[Request], Awaitable[Reply | Response]]


def build_app(engine: EngineNeeds, tokens: Tokens, gate: Gate | None = None) -> App:
    """Return the whole HTTP side of an engine. `gate` counts what is in flight; closed, it lets nothing in."""
    gate = gate or Gate(engine.settings)
    router = Starlette(
        routes=_routes(engine, tokens, gate),
        exception_handlers={
            HeadraceError: _expected,
            ClientGoneError: _gone,
            HTTPException: _of_router,
            Exception: _unexpected,
        },
    )
    # A path with a slash more is another path: a redirect would lose what was posted.
    router.router.redirect_slashes = False
    return Doors(engine, gate, tokens.admin, Stamp(router, engine.metrics))


def _routes(engine: EngineNeeds, tokens: Tokens, gate: Gate) -> list[Route]:
    bodies = Bodies(engine.settings, gate)
    owners = (
        Reading(engine),
        Effects(engine),
        Timers(engine),
        Profiles(engine, bodies),
        Segments(engine),
        Failed(engine, bodies),
        Operations(engine, gate, tokens),
    )
    pages = Pages()
    endpoints: dict[tuple[str, str], Endpoint] = {
        ("/openapi.json", "GET"): pages.document,
        ("/docs", "GET"): pages.page,
        ("/docs/{name}", "GET"): pages.asset,
    }
    for path in ROUTES:
        if path.group != "Doors":
            endpoint: Endpoint = next(
                getattr(owner, path.name) for owner in owners if hasattr(owner, path.name)
            )
            endpoints[path.path, path.method] = _guarded(endpoint, path, tokens)
    methods: dict[str, dict[str, Endpoint]] = {}
    for (where, method), endpoint in endpoints.items():
        methods.setdefault(where, {})[method] = endpoint
    return [_route(where, endpoints_of) for where, endpoints_of in methods.items()]


def _route(where: str, endpoints: dict[str, Endpoint]) -> Route:
    async def endpoint(request: Request) -> Response:
        if request.scope["path"].startswith("/api/"):
            request.path_params.update({name: unquote(part) for name, part in request.path_params.items()})
        method = "GET" if request.method == "HEAD" else request.method
        reply = await endpoints[method](request)
        return reply if isinstance(reply, Response) else _response(reply)

    # Ids may have a slash in them. One written as %2F is always part of the id.
    return Route(where.replace("{id}", "{id:path}"), endpoint, methods=sorted(endpoints))


def _guarded(endpoint: Endpoint, path: Path, tokens: Tokens) -> Endpoint:
    """Return the endpoint with its token asked for first."""
    level: Level | None = path.token
    if level is None:
        return endpoint

    async def guarded(request: Request) -> Reply | Response:
        given = request.headers.get("authorization")
        tokens.require(level, None if given is None else given.encode("latin-1"))
        return await endpoint(request)

    return guarded


def _response(reply: Reply) -> Response:
    headers = {name.decode(): value.decode("latin-1") for name, value in reply.headers}
    return Response(reply.body, reply.status, headers)


async def _expected(request: Request, error: Any) -> Response:  # noqa: ARG001
    return _response(problem_for(error))


async def _gone(request: Request, error: Any) -> Response:  # noqa: ARG001
    """Say nothing, to nobody; the metrics count it."""
    return Response(status_code=CLIENT_GONE)


async def _of_router(request: Request, error: Any) -> Response:  # noqa: ARG001
    if error.status_code == 404:
        return _response(not_found())
    if error.status_code == 405:
        return _response(method_not_allowed((error.headers or {}).get("Allow", "other methods")))
    return _response(problem(error.status_code, "bad_request", "The request cannot be taken."))


async def _unexpected(request: Request, error: Exception) -> Response:
    log = structlog.stdlib.get_logger("headrace.api")
    log.error("fault", request=request.scope.get("headrace.request"), path=request.url.path, exc_info=error)
    return _response(internal())


class Stamp:
    """Gives every answer of the router its request id, keeps browsers from guessing, and counts."""

    def __init__(self, inner: App, metrics: Metrics) -> None:
        self._inner = inner
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        began = perf_counter()
        request_id = new_id()
        scope["headrace.request"] = request_id
        door = "other"
        if scope["path"].startswith("/api/"):
            # Routes are found in the path as it was sent: `x%2Fstory` is an id, `x/story` asks for a story.
            door, scope["path"] = "api", scope["raw_path"].decode("ascii", "replace")

        answered = False

        async def stamped(message: Any) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                self._metrics.request(door, message["status"], perf_counter() - began)
                extra = [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
                if door == "api":
                    extra.append((b"cache-control", b"no-store"))
                if UNREAD in scope:
                    # What still comes of this body would be read as the next request's.
                    extra.append((b"connection", b"close"))
                message = {**message, "headers": [*message.get("headers", ()), *extra]}
            await send(message)

        try:
            await self._inner(scope, receive, stamped)
        except Exception:
            # The router answers a fault, and raises it once more for servers that have no log.
            if not answered:
                raise
