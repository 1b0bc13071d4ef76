"""Strict JSON from clients: what it refuses, and where it went wrong."""

import random
import re
from collections.abc import Callable, Iterator
from itertools import islice
from math import isinf
from typing import Any, NoReturn

import msgspec

from headrace.engine.errors import InputError

MAX_DEPTH = 64
"""How deep objects and lists may stand in each other; the outermost is 1."""

MAX_DIGITS = 4_300
"""Of a whole number."""

SMALL_BYTES = 4_096
"""A text up to this size is read as it is: no numbers in it take long."""

_WINDOW_BYTES = 512
_FEW, _DENSE_BYTES = 16, 256
_SHAPE = bytes.maketrans(b"E123456789", b"e000000000")

_MOST_SIGNS = 20_000
"""How many numbers or brackets are looked at one by one for a place to name, which takes about 10 ms."""

_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NOT_STRUCTURE = bytes(code for code in range(256) if code not in b'[]{}"')
_STRING = re.compile(rb'"[^"]*"')
_SKIPPED = rb'"(?:[^"\\]++|\\.)*+"'
_BRACKET = re.compile(_SKIPPED + rb"|[\[\]{}]", re.DOTALL)
_NUMBER = re.compile(_SKIPPED + rb"|-?\d++(\.\d+)?([eE][+-]?\d+)?", re.DOTALL)
_PLACE = re.compile(r"\(byte (\d+)\)")
_LOW = re.compile(rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_HIGH_ALONE = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})")
_NOT_A_NUMBER = re.compile(rb"-?(NaN|Infinity)")


def reader(kind: Any = Any) -> Callable[[bytes | memoryview], Any]:
    """Return what decodes JSON into the type `kind` as msgspec does, and in a time that no numbers make long.

    What it returns raises msgspec's errors. Of the type's members only those of any value are read so.
    """
    usual = msgspec.json.Decoder(kind).decode
    steady = msgspec.json.Decoder(kind, float_hook=_number).decode

    def read(text: bytes | memoryview) -> Any:
        if len(text) > SMALL_BYTES and _has_far_numbers(text):
            return steady(text)
        return usual(text)

    return read


def _has_far_numbers(text: bytes | memoryview) -> bool:
    """Say whether a text seems to hold many numbers whose exponent has three digits.

    For those msgspec needs 8 µs and more, hundreds of times the usual, whatever their digits are. Looking at all of a
    text would take a fifth of what reading it takes: it is an eighth, at places that no sender can foresee. Ids in hex
    have such signs, too, but few of them.
    """
    step = 8 * _WINDOW_BYTES
    first = int(random.random() * (step - _WINDOW_BYTES))  # noqa: S311 - nobody sees what it gives
    looked_at = b"".join([text[at : at + _WINDOW_BYTES] for at in range(first, len(text), step)])
    return looked_at.translate(_SHAPE, b"+-").count(b"e000") > _FEW + len(looked_at) // _DENSE_BYTES


def _number(text: str) -> float:
    """Read a number as Python does, which takes no longer over any."""
    number = float(text)
    if isinf(number):
        # In msgspec's own words, which `_explain` knows.
        raise ValueError("Number out of range")
    return number


_decode = reader()


def decode(body: bytes) -> Any:
    """Return the value of a JSON text in UTF-8. Of members of the same name the last wins.

    Numbers keep their value: whole ones exactly, up to 4,300 digits. Raises InputError 400 `bad_json`, with
    line and column, for what is not strict JSON: NaN, lone surrogates, more than `MAX_DEPTH` levels.
    """
    try:
        value = _decode(body)
    except (ValueError, RecursionError) as error:
        refuse(body, error)
    check_depth(body)
    return value


def check_depth(body: bytes) -> None:
    """Raise InputError when a valid JSON text is deeper than `MAX_DEPTH`. Parsers do not say."""
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _is_deep(body):
        raise _too_deep(body)


def check_ignored(body: bytes) -> None:
    """Raise InputError for what a typed decoder does not see in the members that it skips."""
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            refuse(body, error)
    check_depth(body)


def refuse(body: bytes, error: Exception) -> NoReturn:
    """Raise InputError for a text that the decoder did not take, saying why and where."""
    if isinstance(error, RecursionError):
        raise _too_deep(body) from None
    raise InputError(400, "bad_json", _explain(body, error)) from None


def _is_deep(body: bytes) -> bool:
    """Say whether a valid text is too deep, with a few passes at C speed instead of one in Python."""
    if b"\\" in body:
        # Pairs first: what is left of a row of backslashes escapes the sign behind it.
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two quotes side by side hold nothing: taking them out leaves each bracket inside or outside, as it was.
    left = body.translate(_BRACKETS, _NOT_STRUCTURE).replace(b'""', b"")
    if b'"' in left:
        left = _STRING.sub(b"", left)
    for _ in range(MAX_DEPTH):
        if not left:
            return False
        left = left.replace(b"[]", b"")
    return bool(left)


def _too_deep(body: bytes) -> InputError:
    return InputError(
        400,
        "bad_json",
        f"The JSON is nested too deep{_first(body, _deep_brackets(body))}: at most {MAX_DEPTH} levels are taken, lists "
        "and objects counted.",
    )


def _deep_brackets(body: bytes) -> Iterator[int]:
    """Yield where the first level begins that is too deep."""
    depth = 0
    for match in islice(_BRACKET.finditer(body), _MOST_SIGNS):
        sign = match.group()
        depth += (sign in b"[{") - (sign in b"]}")
        if depth > MAX_DEPTH:
            yield match.start()


def _far_numbers(body: bytes) -> Iterator[int]:
    """Yield where numbers stand that are out of range."""
    for match in islice(_NUMBER.finditer(body), _MOST_SIGNS):
        text = match.group()
        if text.startswith(b'"'):
            continue
        is_whole = match.group(1) is None and match.group(2) is None
        if len(text.lstrip(b"-")) > MAX_DIGITS if is_whole else isinf(float(text)):
            yield match.start()


def _first(body: bytes, places: Iterator[int]) -> str:
    """Return the first of some places as a part of a sentence; "" when none was found."""
    at = next(places, None)
    return "" if at is None else f", {_where(body, at)}"


def _explain(body: bytes, error: Exception) -> str:
    if not body.strip(b" \t\r\n"):
        return "The body is empty; JSON is expected."
    if isinstance(error, UnicodeDecodeError):
        return _bad_text(body)
    text = str(error)
    if "out of range" in text:
        return (
            f"A number is out of range{_first(body, _far_numbers(body))}: whole numbers have at most {MAX_DIGITS:,} "
            "digits, others are below 1.8e308."
        )
    if lone := _HIGH_ALONE.search(body):
        return f"A lone surrogate {lone.group().decode()} is no character, {_where(body, lone.start())}."
    place = _PLACE.search(text)
    if place is None:
        return f"The JSON ends too early, {_where(body, len(body))}."
    at = int(place.group(1))
    if "utf-16" in text:
        # It is noticed at its end.
        at -= 6 if _LOW.match(body, max(at - 6, 0)) else 0
        return f"A lone surrogate is no character, {_where(body, at)}."
    if word := _NOT_A_NUMBER.match(body, at) or _NOT_A_NUMBER.match(body, max(at - 1, 0)):
        return f"{word.group().decode()} is not JSON, {_where(body, word.start())}."
    if body.startswith(b"\xef\xbb\xbf"):
        return "The body starts with a byte order mark, which is not JSON."
    what = text.removeprefix("JSON is malformed: ").split(" (byte")[0]
    return f"Not JSON: {what}, {_where(body, at)}."


def _bad_text(body: bytes) -> str:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return f"The body is not UTF-8: byte 0x{body[error.start]:02x}, {_where(body, error.start)}."
    return "The body is not UTF-8."


def _where(body: bytes, at: int) -> str:
    """Return a place as an editor shows it; the column counts bytes."""
    line = body.count(b"\n", 0, at) + 1
    column = at - (body.rfind(b"\n", 0, at) + 1) + 1
    return f"line {line}, column {column}"
