"""The model of an outgoing call, and what of it is sent.

    {"method": "POST", "url": "https://…", "headers": {"x-a": "b"}, "body": …, "as": "json" | "form" | "text",
     "auth": {"basic": {"user": "u", "password": {"secret": "N"}}} | {"bearer": {"secret": "N"}}
           | {"hmac": {"key": {"secret": "N"}, "header": "x-signature", "algorithm": "sha256", "prefix": ""}},
     "sign": [{"secret": "NEW"}, {"secret": "OLD"}], "timeout_seconds": 10, "tls": {"verify": true, "ca": null}}

All members but `url` may be left out. A URL or a header's value may be `{"secret": "N"}` too. Secrets are named in it;
their values are looked up when it is sent.
"""

import base64
import hmac
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec

from headrace.engine.calls.address import Target, read_url
from headrace.engine.calls.signing import signed_headers
from headrace.engine.errors import CallError, UnsetSecretError

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
ENCODINGS = ("json", "form", "text")
ALGORITHMS = ("sha256", "sha1", "sha512")
USUAL_SECONDS = 10.0
LEAST_SECONDS = 0.001
MOST_SECONDS = 60.0
MOST_HEADERS = 64
HEADER_CHARS = 8_192
BODY_BYTES = 1 << 20
"""Largest body that is sent."""

_MEMBERS = frozenset(("method", "url", "headers", "body", "as", "auth", "sign", "timeout_seconds", "tls"))
_TYPES = {
    "json": "application/json",
    "form": "application/x-www-form-urlencoded",
    "text": "text/plain; charset=utf-8",
}
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_OURS = frozenset(
    (
        *("host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer"),
        *("upgrade", "expect", "accept-encoding", "content-encoding", "idempotency-key", "traceparent"),
        *("webhook-id", "webhook-timestamp", "webhook-signature"),
    )
)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

Secrets = Callable[[str], str | None]
"""What looks a secret up by its name; None when it is not set."""


class Tls(NamedTuple):
    """How the other side's certificate is checked: at all, and against which file of certificates (None: the usual)."""

    verify: bool = True
    ca: str | None = None


class Outgoing(NamedTuple):
    """A call ready to be sent: bytes, not values. `hide` has the secrets in it, for what is kept of the answer."""

    method: str
    target: Target
    headers: dict[str, str]
    body: bytes
    seconds: float
    tls: Tls
    hide: tuple[str, ...]


def outgoing(
    call: Mapping[str, Any], secrets: Secrets, *, key: str, now: int, traceparent: str | None = None
) -> Outgoing:
    """Return what of a call is sent; `now` is in seconds since 1970. Raises CallError for what cannot be sent."""
    if strange := call.keys() - _MEMBERS:
        raise CallError(f"a call has no {', '.join(sorted(strange))}")
    for name in ("headers", "auth", "tls"):
        _object(call.get(name), name)
    values = Values(secrets)
    method = str(call.get("method", "GET" if call.get("body") is None else "POST")).upper()
    if method not in METHODS:
        raise CallError(f"{method} is no method; there are {', '.join(METHODS)}")
    target = _target(call.get("url"), values)
    body, kind = encoded(call.get("body"), call.get("as", "json"))
    headers = {"user-agent": "headrace", "accept-encoding": "gzip, deflate", "accept": "*/*"}
    if kind:
        headers["content-type"] = kind
    headers |= checked_headers(call.get("headers") or {}, values)
    headers["idempotency-key"] = header_value("idempotency-key", key)
    if traceparent is not None and _TRACEPARENT.fullmatch(traceparent):
        headers["traceparent"] = traceparent
    if auth := call.get("auth"):
        name, value = authenticated(auth, values, body)
        headers[name] = value
    if sign := call.get("sign"):
        if not isinstance(sign, list | tuple):
            raise CallError('`sign` should be a list of {"secret": "NAME"}')
        names = [values.secret(secret, "sign") for secret in sign]
        headers |= signed_headers(names, key, now, body)
    return Outgoing(method, target, headers, body, _seconds(call), _tls(call), tuple(values.used))


def _target(url: Any, values: "Values") -> Target:
    """Return where a call goes. Raises CallError, which tells nothing of a URL that is a secret."""
    text = values.text(url, "the URL")
    try:
        return read_url(text)
    except CallError:
        if text is url:
            raise
        raise CallError(f"the secret {url['secret']} is no URL that can be called") from None


def _object(value: Any, name: str) -> Mapping[str, Any]:
    """Return a member that is an object, or an empty one. Raises CallError for anything else."""
    if value is not None and not isinstance(value, Mapping):
        raise CallError(f"`{name}` should be an object")
    return value or {}


def _seconds(call: Mapping[str, Any]) -> float:
    given = call.get("timeout_seconds")
    if given is None:
        return USUAL_SECONDS
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise CallError("`timeout_seconds` should be a number")
    # What is not a number is not greater than the least either.
    return min(given, MOST_SECONDS) if given > LEAST_SECONDS else LEAST_SECONDS


def _tls(call: Mapping[str, Any]) -> Tls:
    given = _object(call.get("tls"), "tls")
    file = given.get("ca")
    if file is not None and not isinstance(file, str):
        raise CallError("`tls.ca` should be the path of a file")
    return Tls(given.get("verify", True) is not False, file)


class Values:
    """Texts of a call, those that are secret looked up; `used` has the secrets, and what was made from them."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self.used: list[str] = []

    def text(self, value: Any, what: str) -> str:
        """Return a text, or the secret that is named. Raises CallError when it is neither."""
        return value if isinstance(value, str) else self.secret(value, what, "a text or ")

    def secret(self, value: Any, what: str, or_what: str = "") -> str:
        """Return the secret that is named. Raises CallError when none is: a secret never stands in a call itself."""
        if not isinstance(value, Mapping) or not isinstance(value.get("secret"), str):
            raise CallError(f'{what} should be {or_what}{{"secret": "NAME"}}')
        name = value["secret"]
        secret = self._secrets(name)
        if secret is None:
            reason = f"the secret {name} is not set: set the environment variable {name} or {name}_FILE"
            raise UnsetSecretError(reason, retryable=True)
        self.used.append(secret)
        return secret


def encoded(body: Any, kind: str) -> tuple[bytes, str]:
    """Return a body as bytes, and its content type; '' without a body. Raises CallError for what cannot be encoded."""
    if kind not in ENCODINGS:
        raise CallError(f"`as` is {kind!r}; it should be one of {', '.join(ENCODINGS)}")
    if body is None:
        return b"", ""
    try:
        data = _ENCODERS[kind](body)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CallError(f"the body cannot be sent as {kind}: {error}") from None
    if len(data) > BODY_BYTES:
        raise CallError(f"the body has {len(data):,} bytes, {BODY_BYTES:,} can be sent")
    return data, _TYPES[kind]


def _form(body: Any) -> bytes:
    if not isinstance(body, Mapping):
        raise TypeError("it should be an object")
    pairs: list[tuple[str, str]] = []
    for name, value in body.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, list | Mapping):
                raise TypeError(f"{name} holds objects or lists in lists")
            pairs.append((name, _scalar(item)))
    return urlencode(pairs).encode()


def _scalar(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _text(body: Any) -> bytes:
    return _scalar(body).encode()


_ENCODERS: Mapping[str, Callable[[Any], bytes]] = {
    "json": msgspec.json.Encoder().encode,
    "form": _form,
    "text": _text,
}


def header_name(name: str) -> str:
    """Return a header's name in lower case. Raises CallError for one that no author may set."""
    lower = name.lower()
    if not _HEADER_NAME.fullmatch(name):
        raise CallError(f"{name[:100]!r} is no name of a header")
    if lower in _OURS or lower.startswith("proxy-"):
        raise CallError(f"the header {lower} is set by Headrace")
    return lower


def header_value(name: str, value: str) -> str:
    """Return a header's value. Raises CallError when it could break out of its header; the value is not shown."""
    if not _HEADER_VALUE.fullmatch(value):
        raise CallError(f"the value of the header {name} holds a line break or a sign that is not ASCII")
    if len(value) > HEADER_CHARS:
        raise CallError(f"the value of the header {name} is longer than {HEADER_CHARS:,} characters")
    return value.strip()


def checked_headers(headers: Mapping[str, Any], values: Values) -> dict[str, str]:
    """Return the author's headers. Raises CallError for one that cannot be sent."""
    if len(headers) > MOST_HEADERS:
        raise CallError(f"{len(headers)} headers, {MOST_HEADERS} can be sent")
    found = {}
    for given, value in headers.items():
        name = header_name(given)
        found[name] = header_value(name, values.text(value, f"the header {name}"))
    return found


def authenticated(auth: Mapping[str, Any], values: Values, body: bytes) -> tuple[str, str]:
    """Return the header that says who calls. Raises CallError for what cannot stand in it."""
    if basic := _object(auth.get("basic"), "auth.basic"):
        user = values.text(basic.get("user"), "basic.user")
        if ":" in user:
            raise CallError("a user of basic authentication may not hold a colon")
        both = f"{user}:{values.secret(basic.get('password'), 'basic.password')}"
        token = base64.b64encode(both.encode()).decode()
        values.used.append(token)
        return "authorization", f"Basic {token}"
    if bearer := auth.get("bearer"):
        token = values.secret(bearer, "bearer")
        return "authorization", header_value("authorization", f"Bearer {token}")
    if made := _object(auth.get("hmac"), "auth.hmac"):
        algorithm = made.get("algorithm", "sha256")
        if algorithm not in ALGORITHMS:
            raise CallError(f"{algorithm} is no algorithm; there are {', '.join(ALGORITHMS)}")
        secret = values.secret(made.get("key"), "hmac.key")
        name = header_name(str(made.get("header", "x-signature")))
        digest = hmac.digest(secret.encode(), body, algorithm).hex()
        return name, header_value(name, f"{made.get('prefix', '')}{digest}")
    raise CallError("auth should be one of basic, bearer, hmac")
