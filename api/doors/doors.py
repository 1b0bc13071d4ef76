"""The doors as one ASGI app in front of the router."""

from time import perf_counter

import structlog

from headrace.api.doors.body import read_body
from headrace.api.doors.call import App, Call, Callers, ClientGoneError, Receive, Scope, Send, trace_parent
from headrace.api.doors.collect import collect_answer, parse_collect, path_parts
from headrace.api.doors.cors import cors_headers, options_reply
from headrace.api.doors.gate import Gate
from headrace.api.doors.track import is_profile_less, parse_track, track_answer
from headrace.api.logs import Refusals
from headrace.api.needs import EngineNeeds
from headrace.api.problems import Reply, internal, method_not_allowed, not_found, problem_for
from headrace.engine.errors import HeadraceError, InputError
from headrace.engine.model import Answer, TrackRequest, clean_id

TRACK_METHODS = "POST, OPTIONS"
COLLECT_METHODS = "GET, POST, OPTIONS"
CLIENT_GONE = 499

_JSON = (b"content-type", b"application/json")
_DEBUGGER_REFUSED = (b"x-debugger", b"refused")
_CLOSE = (b"connection", b"close")


class Doors:
    """Answers /track and /collect itself and gives every other request to `inner`."""

    def __init__(self, engine: EngineNeeds, gate: Gate, admin_token: str | None, inner: App) -> None:
        self._engine = engine
        self._settings = engine.settings
        self._gate = gate
        self._metrics = engine.metrics
        self._callers = Callers(engine.settings, admin_token)
        self._inner = inner
        self._log = structlog.stdlib.get_logger("headrace.doors")
        self._refusals = Refusals()
        # Asked once: even a line that is not written costs as much as reading a body.
        self._logs_requests = engine.settings.log_level == "debug"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            path: str = scope["path"]
            if path == "/track":
                await self._serve("track", scope, receive, send)
                return
            if path.startswith("/collect/"):
                await self._serve("collect", scope, receive, send)
                return
        await self._inner(scope, receive, send)

    async def _serve(self, door: str, scope: Scope, receive: Receive, send: Send) -> None:
        began = perf_counter()
        call = Call(scope, receive, self._gate, self._settings)
        try:
            reply = await (self._track(call) if door == "track" else self._collect(call))
        except ClientGoneError:
            self._metrics.request(door, CLIENT_GONE, perf_counter() - began)
            return
        except HeadraceError as error:
            reply = problem_for(error)
            self._note(call, door, reply.status, error)
        except Exception:  # noqa: BLE001
            # The edge: a fault of ours must not end the connection without an answer.
            self._log.exception("fault", request=call.id, door=door)
            reply = internal()
        await _send(call, reply, send)
        took = perf_counter() - began
        self._metrics.request(door, reply.status, took)
        if self._logs_requests:
            self._log.debug(
                "request", request=call.id, door=door, status=reply.status, ms=round(took * 1000, 2)
            )

    async def _track(self, call: Call) -> Reply:
        if call.method != "POST":
            return _other_method(call, TRACK_METHODS)
        self._gate.enter()
        try:
            body = await read_body(call)
            request = parse_track(call, body)
            request.profile_less = is_profile_less(call.scope["query_string"])
            self._complete(request, call)
            answer = await self._engine.track(request)
        finally:
            self._gate.leave(call.held)
        return _reply(track_answer(request, answer), answer)

    async def _collect(self, call: Call) -> Reply:
        parts = path_parts(call)
        if parts is None:
            return not_found("The path is /collect/{event type}/{source id}.")
        if call.method not in ("POST", "GET"):
            return _other_method(call, COLLECT_METHODS)
        self._gate.enter()
        try:
            body = await read_body(call) if call.method == "POST" else b""
            request = parse_collect(call, parts, body)
            self._complete(request, call)
            answer = await self._engine.track(request)
        finally:
            self._gate.leave(call.held)
        return _reply(collect_answer(answer), answer)

    def _complete(self, request: TrackRequest, call: Call) -> None:
        """Add what the headers say."""
        headers = call.headers
        request.caller = self._callers.caller(call)
        if b"traceparent" in headers:
            request.trace_parent = trace_parent(call)
        given = headers.get(b"idempotency-key") or headers.get(b"webhook-id")
        if given and (text := given.decode("latin-1").strip()):
            request.idempotency_key = clean_id(text)
            if request.idempotency_key is None:
                raise InputError(
                    422, "bad_idempotency_key", "The header Idempotency-Key or webhook-id is no id."
                )

    def _note(self, call: Call, door: str, status: int, error: HeadraceError) -> None:
        if status == 500:
            self._log.error("fault", request=call.id, door=door, exc_info=error)
        elif isinstance(error, InputError):
            self._refusals.note(call.id, door, status, error.code)
        else:
            self._refusals.note(call.id, door, status, type(error).__name__, str(error))


def _other_method(call: Call, methods: str) -> Reply:
    return options_reply(call, methods) if call.method == "OPTIONS" else method_not_allowed(methods)


def _reply(body: bytes, answer: Answer) -> Reply:
    return Reply(200, body, (_JSON, _DEBUGGER_REFUSED) if answer.debugger_refused else (_JSON,))


async def _send(call: Call, reply: Reply, send: Send) -> None:
    headers = [*reply.headers, *cors_headers(call), (b"x-request-id", call.id.encode())]
    if reply.status != 204:
        headers.append((b"content-length", b"%d" % len(reply.body)))
    if call.unread:
        # What still comes of this body would be read as the next request's.
        headers.append(_CLOSE)
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
