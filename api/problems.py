"""Errors as the client reads them: application/problem+json (RFC 9457)."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple

import msgspec

from headrace.engine.errors import BusyError, HeadraceError, InputError, StoreError, TooLargeError

MAX_FIELDS = 100
"""Most bad fields that one answer names."""

HeaderList = list[tuple[bytes, bytes]]

_encode = msgspec.json.Encoder().encode
_JSON_TYPE = (b"content-type", b"application/json")
_PROBLEM_TYPE = (b"content-type", b"application/problem+json")
_RETRIED = frozenset({429, 503})
_CHALLENGE = (b"www-authenticate", b'Bearer realm="headrace"')


class Reply(NamedTuple):
    """A whole answer: status, body and headers; the length is added when it is sent."""

    status: int
    body: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ()


def json_reply(value: object, status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()) -> Reply:
    """Return an answer whose body is a JSON value."""
    return Reply(status, _encode(value), (_JSON_TYPE, *headers))


class BadField(msgspec.Struct):
    """One bad field of a request."""

    pointer: str
    message: str


class Problem(msgspec.Struct, omit_defaults=True):
    """The body of every error: `code` is for programs, `detail` for people."""

    title: str
    status: int
    detail: str
    code: str
    type: str = msgspec.field(default_factory=lambda: "about:blank")
    errors: list[BadField] = []


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    errors: Sequence[tuple[str, str]] = (),
    headers: Sequence[tuple[bytes, bytes]] = (),
    retry_after_seconds: int = 1,
) -> Reply:
    """Return an error as an answer, with the headers that its status asks for."""
    body = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        errors=[BadField(pointer, message) for pointer, message in errors[:MAX_FIELDS]],
    )
    extra: HeaderList = [_PROBLEM_TYPE, *headers]
    if status in _RETRIED:
        extra.append((b"retry-after", str(retry_after_seconds).encode()))
    if status == 401:
        extra.append(_CHALLENGE)
    return Reply(status, _encode(body), extra)


def problem_for(error: HeadraceError) -> Reply:
    """Return what a client may read about an error that was raised on purpose."""
    match error:
        case InputError():
            wait = error.retry_after_seconds or 1
            return problem(
                error.status, error.code, error.detail, errors=error.fields, retry_after_seconds=wait
            )
        case BusyError():
            return problem(503, "busy", error.detail, retry_after_seconds=error.retry_after_seconds)
        case TooLargeError():
            return problem(
                413,
                "too_large_to_keep",
                "What is to be kept of this is larger than the store takes at once. It will not be taken: send less, "
                "or fewer events at a time.",
            )
        case StoreError():
            # The text may name files and disks, which are no business of a client.
            return problem(
                503, "store_unavailable", "The store cannot take it now. Nothing was kept; try again."
            )
    return internal()


def internal() -> Reply:
    """Return the answer to a fault of ours."""
    return problem(500, "internal", "A fault in the server. The log has it under this request's id.")


def not_found(detail: str = "There is nothing at this path.", code: str = "no_such_path") -> Reply:
    """Return a 404."""
    return problem(404, code, detail)


def method_not_allowed(allowed: str) -> Reply:
    """Return a 405 that names the methods of the path."""
    return problem(
        405, "method_not_allowed", f"This path takes {allowed}.", headers=[(b"allow", allowed.encode())]
    )
