"""Reading a body: limits, time, packing, and JSON whatever it is called."""

import asyncio
import re
import zlib
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote_to_bytes

from headrace.api.doors.call import Call, ClientGoneError
from headrace.engine import strict_json
from headrace.engine.errors import InputError

_FORM = b"application/x-www-form-urlencoded"
_GZIP_OR_ZLIB, _RAW = 47, -15
_MAX_MEMBERS = 16
_DRAINED = 16
"""A declared body of up to this many times the limit is read and thrown away; above it we hang up."""


async def read_body(call: Call, most_bytes: int | None = None) -> bytes:
    """Return the body, unpacked; of at most so many bytes, else of as many as the settings allow.

    Raises InputError 400, 408, 413, 415, BusyError, or ClientGoneError.
    """
    limit = call.settings.body_limit_bytes if most_bytes is None else most_bytes
    length = call.headers.get(b"content-length", b"")
    declared = int(length) if length.isdigit() else 0
    if declared > limit:
        call.unread = declared > limit * _DRAINED
        raise _too_large(limit)
    slow = call.gate.slow_bodies
    task = slow.begin()
    try:
        body = await _receive(call, limit)
    except asyncio.CancelledError:
        if not slow.was_slow(task):
            raise
        call.unread = True
        raise InputError(408, "slow_body", "The body took too long to arrive.") from None
    finally:
        slow.end(task)
    encoding = call.headers.get(b"content-encoding")
    return body if encoding is None else _unpack(call, body, encoding.strip().lower(), limit)


async def _receive(call: Call, limit: int) -> bytes:
    message = await call.receive()
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    first: bytes = message.get("body", b"")
    call.hold(len(first))
    if not message.get("more_body"):
        return first if len(first) <= limit else _refuse_unread(call, limit)
    parts, size = [first], len(first)
    while message.get("more_body"):
        if size > limit:
            _refuse_unread(call, limit)
        message = await call.receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part: bytes = message.get("body", b"")
        call.hold(len(part))
        parts.append(part)
        size += len(part)
    return b"".join(parts) if size <= limit else _refuse_unread(call, limit)


def _refuse_unread(call: Call, limit: int) -> NoReturn:
    call.unread = True
    raise _too_large(limit)


def _too_large(limit: int) -> InputError:
    return InputError(413, "body_too_large", f"The body is larger than {limit} bytes, which is the limit.")


def _unpack(call: Call, body: bytes, encoding: bytes, limit: int) -> bytes:
    if encoding in (b"", b"identity") or not body:
        return body
    if encoding not in (b"gzip", b"x-gzip", b"deflate"):
        raise InputError(415, "bad_encoding", "This Content-Encoding is not read; gzip and deflate are.")
    # Two zlib header bytes decide; some clients send deflate without them.
    is_raw = encoding == b"deflate" and (body[0] & 15 != 8 or int.from_bytes(body[:2]) % 31)
    unpacked = _inflate(body, _RAW if is_raw else _GZIP_OR_ZLIB, limit)
    call.hold(len(unpacked))
    return unpacked


def _inflate(body: bytes, window: int, limit: int) -> bytes:
    """Return the unpacked body; no more than the limit and a byte is ever made of it."""
    parts: list[bytes] = []
    room = limit
    for _ in range(_MAX_MEMBERS):
        stream = zlib.decompressobj(window)
        try:
            part = stream.decompress(body, room + 1)
        except zlib.error:
            raise _not_packed() from None
        room -= len(part)
        if room < 0:
            raise _too_large(limit)
        parts.append(part)
        if not stream.eof:
            break
        body = stream.unused_data
        if not body:
            return b"".join(parts)
    raise _not_packed()


def _not_packed() -> InputError:
    return InputError(
        400, "bad_encoding", "The body is not what its Content-Encoding says, or it is cut off."
    )


def decode_json(call: Call, body: bytes) -> Any:
    """Return the JSON value of a body, or of the form that it stands in. Raises InputError 400."""
    try:
        return strict_json.decode(body)
    except InputError:
        inner = json_in_form(call, body)
        if inner is None:
            raise
        return strict_json.decode(inner)


_FORM_WITH_JSON = re.compile(rb"(?:[\w.-]{0,64}=)?(?:%7B|\{|%5B|\[)", re.IGNORECASE)


def json_in_form(call: Call, body: bytes) -> bytes | None:
    """Return the JSON text inside a form: the whole body encoded, or the value of its first field."""
    if not call.headers.get(b"content-type", b"").lower().startswith(_FORM):
        return None
    match = _FORM_WITH_JSON.match(body)
    if match is None:
        return None
    if b"=" not in match.group():
        return unquote_to_bytes(body.strip().replace(b"+", b" "))
    value = body.partition(b"=")[2].partition(b"&")[0]
    return unquote_to_bytes(value.replace(b"+", b" "))


def query_pairs(query: bytes) -> dict[str, Any]:
    """Return a query string as an object; a name that stands more than once gives a list."""
    try:
        pairs = parse_qsl(
            query.decode("latin-1"), keep_blank_values=True, errors="strict", max_num_fields=1000
        )
    except ValueError:
        raise InputError(
            422, "bad_query", "The query string cannot be read: UTF-8, at most 1,000 fields."
        ) from None
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return found
