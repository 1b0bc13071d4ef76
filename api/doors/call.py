"""One HTTP request at a door: headers, who sends, and the body."""

import ipaddress
import re
from base64 import b64decode
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from hmac import compare_digest
from typing import Any

from headrace.api.doors.gate import Gate
from headrace.engine.model import Caller, new_id
from headrace.engine.settings import Settings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_TRACE_PARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.{0,64})?")


class ClientGoneError(Exception):
    """The client closed the connection: there is nobody to answer."""


class Call:
    """A request as the doors work on it. `headers` has lower-case names; of equal ones the last."""

    __slots__ = ("gate", "headers", "held", "id", "method", "receive", "scope", "settings", "unread")

    def __init__(self, scope: Scope, receive: Receive, gate: Gate, settings: Settings) -> None:
        self.scope = scope
        self.receive = receive
        self.gate = gate
        self.settings = settings
        self.method: str = scope["method"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.id = new_id()
        self.held = 0
        self.unread = False

    def hold(self, size: int) -> None:
        """Count bytes against what may be in flight, until the request leaves."""
        self.gate.hold(size)
        self.held += size

    def header(self, name: bytes) -> str | None:
        """Return a header as text, or None when it is absent or empty."""
        value = self.headers.get(name)
        return value.decode("latin-1") if value else None


class Callers:
    """Says who sends: the address behind trusted proxies, the secret, the admin."""

    def __init__(self, settings: Settings, admin_token: str | None) -> None:
        self._admin = admin_token.encode() if admin_token else None
        networks = [ipaddress.ip_network(name) for name in settings.trusted_proxies]
        self._has_proxies = bool(networks)

        @lru_cache(1024)
        def is_trusted(address: str) -> bool:
            try:
                ip = ipaddress.ip_address(address)
            except ValueError:
                return False
            return any(ip in network for network in networks)

        self._is_trusted = is_trusted

    def caller(self, call: Call) -> Caller:
        """Return what the door knows about the sender."""
        headers = call.headers
        caller = Caller(
            ip=self.address(call),
            user_agent=call.header(b"user-agent"),
            referrer=call.header(b"referer"),
            origin=call.header(b"origin"),
            do_not_track=_is_one(headers.get(b"dnt")) or _is_one(headers.get(b"sec-gpc")),
        )
        if authorization := headers.get(b"authorization"):
            caller.secret = credential(authorization)
            if caller.secret and self._admin:
                caller.admin = compare_digest(caller.secret.encode(), self._admin)
        return caller

    def address(self, call: Call) -> str | None:
        """Return the client's address: the last one in `X-Forwarded-For` that is no proxy of ours."""
        client = call.scope.get("client")
        address: str | None = client[0] if client else None
        if not self._has_proxies or address is None or not self._is_trusted(address):
            return address
        for part in reversed(_forwarded(call).split(",")):
            hop = _plain_address(part.strip())
            if hop is None:
                break
            address = hop
            if not self._is_trusted(hop):
                break
        return address


def credential(authorization: bytes) -> str | None:
    """Return the token of a `Bearer`, or the user of a `Basic` authorization."""
    scheme, _, value = authorization.partition(b" ")
    value = value.strip()
    match scheme.lower():
        case b"bearer":
            return value.decode("latin-1") or None
        case b"basic":
            try:
                user = b64decode(value, validate=True).decode().partition(":")[0]
            except ValueError:
                return None
            return user or None
    return None


def _is_one(header: bytes | None) -> bool:
    """Say whether a header is `1`; the parser leaves blanks at its end."""
    return header is not None and header.strip() == b"1"


def trace_parent(call: Call) -> str | None:
    """Return the W3C trace context that the client sent, when it is well formed."""
    value = call.headers.get(b"traceparent")
    if value is None or not _TRACE_PARENT.fullmatch(value):
        return None
    return value.decode("latin-1")


def _forwarded(call: Call) -> str:
    """Return all lines of `X-Forwarded-For` as one list: a proxy may add a line of its own."""
    lines = [value for name, value in call.scope["headers"] if name == b"x-forwarded-for"]
    return b",".join(lines).decode("latin-1")


def _plain_address(text: str) -> str | None:
    """Return an address without its port, or None when it is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
