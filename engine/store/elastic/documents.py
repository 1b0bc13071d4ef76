"""Our documents as Elasticsearch keeps them."""

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import msgspec

from headrace.engine.errors import InputError
from headrace.engine.model import Doc
from headrace.engine.store.elastic.facets import facets
from headrace.engine.store.encoding import due_at, encode_doc, text_or_none, time_in
from headrace.engine.store.protocol import Claim, Row, Write

Source = bytes
"""A document as it is sent: JSON without its closing brace, so that a record's `pending` can still be added."""

WORKFLOW = "workflow"
"""The facet of a workflow's version."""

HIDDEN = "hidden"
"""The facet of a profile that is not found: facets of values begin otherwise."""

EVENT_CLAIM = "event "
"""How the facet of an event's claim begins; the month follows in which it was made, such as 2026-03."""

_OURS = re.compile("[0-9a-f]{32}").fullmatch
_FACETS_OF_A_PROFILE = ("traits", "segments", "interests", "consents", "marks", "stats")

_encode = msgspec.json.Encoder().encode


@lru_cache(maxsize=4096)
def doc_id(key: str) -> str:
    """Return the `_id` of a key: itself when it is one of ours, else a hash. Raises InputError for half a character."""
    if len(key) == 32 and _OURS(key) is not None:
        return key
    try:
        return "~" + urlsafe_b64encode(blake2b(key.encode(), digest_size=24).digest()).decode()
    except UnicodeEncodeError:
        raise InputError(422, "bad_text", "A text in the question is not valid Unicode.") from None


def source(fields: Doc, doc: Doc, data: bytes | None = None) -> Source:
    """Return fields and the whole document, or its JSON `data` if that is there. Raises StoreError for what is no JSON.

    Where JSON has half of a surrogate pair it is kept as a text: Elasticsearch would mend it.
    """
    if data is None:
        data = encode_doc(doc)
    if b"\\ud" in data:
        return encode_fields(fields) + b',"text":' + _encode(data.decode())
    return encode_fields(fields) + b',"doc":' + data


def as_text(whole: bytes) -> bytes:
    """Return a complete source with its document as a text, for one that Elasticsearch could not read otherwise."""
    members = msgspec.json.decode(whole, type=dict[str, msgspec.Raw])
    if "doc" in members:
        members["text"] = msgspec.Raw(_encode(bytes(members.pop("doc")).decode()))
    return _encode(members)


def encode_fields(fields: Doc) -> bytes:
    """Return the JSON of fields without the closing brace."""
    try:
        return _encode(fields)[:-1]
    except UnicodeEncodeError:
        return _encode({name: _mended(value) for name, value in fields.items()})[:-1]


def _mended(value: Any) -> Any:
    """Return what can be looked for in place of a text that UTF-8 cannot say."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    return [_mended(one) for one in value] if isinstance(value, list) else value


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def profile_source(write: Write, tenant: str, change: str, now: str, data: bytes | None = None) -> Source:
    """Return a profile's source; `data` is its JSON, if that is there."""
    doc = write.doc
    fields: Doc = {
        "key": write.key,
        "tenant": tenant,
        "change": change,
        "id": _name(doc.get("id")),
        "ids": _names(doc.get("ids")),
        "segments": _names(doc.get("segments")),
        "created": time_in(doc, "created", now),
        "updated": time_in(doc, "updated", now),
        "facets": facets(doc, _FACETS_OF_A_PROFILE),
    }
    if doc.get("hidden") is True:
        # By the one that it lives on in it is found when that one is erased.
        fields |= {"hidden": True, "facets": [HIDDEN], "ids": _names([doc.get("merged_into")])}
    return source(fields, doc, data)


def session_source(
    write: Write, tenant: str, change: str, n: int, now: str, data: bytes | None = None
) -> Source:
    """Return a session's source; `n` counts its writes, `data` is its JSON, if that is there."""
    doc = write.doc
    fields = {
        "key": write.key,
        "tenant": tenant,
        "change": change,
        "id": _name(doc.get("id")),
        "profile": _name(doc.get("profile")),
        "source": _name(doc.get("source")),
        "hidden": doc.get("hidden") is True,
        "created": time_in(doc, "created", now),
        "updated": time_in(doc, "updated", now),
        "n": n,
        "facets": facets(doc, ("properties",)),
    }
    return source(fields, doc, data)


def claim_source(claim: Claim, tenant: str, change: str, event_at: str | None = None) -> bytes:
    """Return the whole source of a claim; with `event_at` it is an event's, made then, and need not stay for ever."""
    fields: Doc = {"key": claim.key, "tenant": tenant, "change": change, "profile": claim.profile}
    if event_at is not None:
        fields["facets"] = [EVENT_CLAIM + event_at[:7]]
    return source(fields, claim.doc) + b"}"


def session_claim(write: Write, tenant: str, change: str) -> bytes:
    """Return the whole source of a session that is only claimed yet: it says whose it is, and is no session."""
    profile = _name(write.doc.get("profile"))
    fields = {
        "key": write.key,
        "tenant": tenant,
        "change": change,
        "profile": profile,
        "hidden": True,
        "n": 0,
    }
    return encode_fields(fields) + b"}"


def event_source(row: Row, tenant: str, change: str, now: str) -> Source:
    """Return an event's source."""
    key, doc = row
    received = time_in(doc, "received", now)
    fields = {
        "key": key,
        "tenant": tenant,
        "change": change,
        "id": _name(doc.get("id")),
        "type": _name(doc.get("type")) or "",
        "source": _name(doc.get("source")),
        "profile": _name(doc.get("profile")),
        "session": _name(doc.get("session")),
        "received": received,
        "happened": time_in(doc, "happened", received),
        "content": _name(doc.get("content")),
        "facets": facets(doc, ("properties",)),
    }
    return source(fields, doc)


def mark_source(row: Row, tenant: str, change: str, now: str) -> Source:
    """Return the source of a mark: an event without a type, of which only its key is known."""
    key, doc = row
    fields = {
        "key": key,
        "tenant": tenant,
        "change": change,
        "id": _name(doc.get("id")),
        "profile": _name(doc.get("profile")),
        "session": _name(doc.get("session")),
        "received": time_in(doc, "received", now),
        "content": _name(doc.get("content")),
    }
    return encode_fields(fields)


def listed_source(row: Row, kind: str, tenant: str, owner: str | None, now: str) -> bytes:
    """Return the whole source of a failed event, effect, timer or trace; `owner` is whose it is if it says nothing."""
    key, doc = row
    created = created_at(doc, now)
    fields: Doc = {"key": key, "tenant": tenant, "created": created}
    for name in ("type", "source", "session", "event", "status"):
        fields[name] = _name(doc.get(name))
    fields["profile"] = _name(doc.get("profile")) or owner
    if kind in ("effects", "timers"):
        fields["next"] = due_at(doc, created)
    if kind == "timers" and (ended := text_or_none(doc.get("ended"))):
        fields["ended"] = ended
    return source(fields, doc) + b"}"


def workflow_source(row: Row, tenant: str, now: str) -> bytes:
    """Return the whole source of a version of a workflow's file; its facet tells it from the facts beside it."""
    fields = {
        "key": row.key,
        "tenant": tenant,
        "created": time_in(row.doc, "created", now),
        "facets": [WORKFLOW],
    }
    return source(fields, row.doc) + b"}"


def created_at(doc: Doc, now: str) -> str:
    """Return when a failed event, effect, timer or trace came."""
    return time_in(doc, "received", "") or time_in(doc, "created", "") or now


def _names(values: Any) -> list[str]:
    # Lists first: to ask whether something can be walked at all takes longer than the walk.
    if type(values) is not list and not isinstance(values, Iterable):
        return []
    return [one for one in values if isinstance(one, str)]
