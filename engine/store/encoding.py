"""Documents as JSON, and what stores read off them."""

import json
from collections.abc import Container
from typing import Any

import msgspec

from headrace.engine.errors import StoreError
from headrace.engine.model import Doc
from headrace.engine.strict_json import reader

_encode = msgspec.json.Encoder().encode
_decode = reader()


def encode_doc(doc: Doc) -> bytes:
    """Return a document as JSON. Raises StoreError when it is none."""
    try:
        return _encode(doc)
    except UnicodeEncodeError:
        # Half of a surrogate pair, which UTF-8 cannot say, is kept as an escape.
        return json.dumps(doc, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        msg = f"A document cannot be kept as JSON: {error}"
        raise StoreError(msg) from error


def decode_doc(data: bytes | memoryview) -> Doc:
    """Return the document that `encode_doc` wrote."""
    try:
        doc: Doc = _decode(data)
    except msgspec.DecodeError:
        doc = json.loads(bytes(data))
    return doc


def due_at(doc: Doc, created: str) -> str | None:
    """Return when a worker should take an effect or timer; None when nothing is left to do for it."""
    if doc.get("status", "pending") != "pending":
        return None
    due = doc.get("due")
    return due if isinstance(due, str) else created


def given_back(doc: Doc, then: Container[str], profile: str) -> Doc | None:
    """Return a document that was given to another profile as it is when it is the profile's again.

    None when it was of none of those that `then` names before it was given away.
    """
    before = doc.get("profile_then")
    if before not in then:
        return None
    back = doc | {"profile": profile}
    if before == profile:
        del back["profile_then"]
    return back


def text_or_none(value: Any) -> str | None:
    """Return a text, or None for whatever else stands where an id should."""
    return value if isinstance(value, str) else None


def time_in(doc: Doc, name: str, default: str) -> str:
    """Return a document's time by its name, from `time` or the top."""
    times = doc.get("time")
    time = times.get(name) if isinstance(times, dict) else doc.get(name)
    return time if isinstance(time, str) else default
