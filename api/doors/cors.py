"""CORS: what a browser must hear before a page may send."""

import re

from headrace.api.doors.call import Call
from headrace.api.problems import HeaderList, Reply

_MAX_AGE_SECONDS = b"7200"
_MAX_ASKED = 50
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_ORIGIN = re.compile(rb"[\x21-\x7e]{1,300}")
_USUAL = (
    b"content-type, content-encoding, authorization, x-timestamp, idempotency-key, webhook-id, traceparent"
)
_VARY = (b"vary", b"origin")
_CREDENTIALS = (b"access-control-allow-credentials", b"true")
_EXPOSED = (b"access-control-expose-headers", b"x-request-id, x-debugger, retry-after")


def cors_headers(call: Call) -> HeaderList:
    """Return the headers that let the asking page read the answer; the origin is echoed, never `*`."""
    origin = call.headers.get(b"origin")
    if origin is None or origin == b"*" or not _ORIGIN.fullmatch(origin):
        return [_VARY]
    return [_VARY, (b"access-control-allow-origin", origin), _CREDENTIALS, _EXPOSED]


def options_reply(call: Call, methods: str) -> Reply:
    """Return the answer to OPTIONS: a preflight, or the question what a path takes."""
    headers: HeaderList = [(b"allow", methods.encode())]
    if b"access-control-request-method" in call.headers:
        asked = _NAME.findall(call.headers.get(b"access-control-request-headers", b""))[:_MAX_ASKED]
        headers += [
            (b"access-control-allow-methods", methods.encode()),
            (b"access-control-allow-headers", b", ".join(asked) or _USUAL),
            (b"access-control-max-age", _MAX_AGE_SECONDS),
            (b"vary", b"access-control-request-headers"),
        ]
    return Reply(204, b"", headers)
