"""Changes and documents as rows of tables, and back."""

from collections.abc import Sequence
from typing import Any

import msgspec

from headrace.engine.model import iso_now
from headrace.engine.store.encoding import due_at, encode_doc, text_or_none, time_in
from headrace.engine.store.protocol import Change, Row, Version, Write

Key = bytes | str
"""A key as it is stored: 16 bytes for the usual 32 hex digits, any other text as it is."""

Values = tuple[Any, ...]

COLUMNS: dict[str, tuple[str, ...]] = {
    "profiles": ("key", "version", "change", "tenant", "hidden", "created", "updated", "doc"),
    "sessions": (
        *("key", "version", "change", "tenant", "source", "profile", "hidden", "created", "updated", "doc"),
    ),
    "claims": ("key", "tenant", "profile", "doc"),
    "workflows": ("key", "tenant", "created", "doc"),
    "events": (
        *("key", "change", "tenant", "type", "source", "profile", "session"),
        *("received", "happened", "content", "id", "doc"),
    ),
}
"""The columns of each table, in the order of the values that this module makes."""

_LISTED = (
    *("key", "tenant", "type", "source", "profile", "session", "event", "status"),
    *("created", "next", "doc"),
)
COLUMNS |= dict.fromkeys(("failed", "effects", "timers", "traces"), _LISTED)


def pack_key(key: str) -> Key:
    """Return a key as it is stored."""
    if len(key) == 32:
        try:
            packed = bytes.fromhex(key)
        except ValueError:
            return key
        if packed.hex() == key:
            return packed
    return key


def unpack_key(key: Key) -> str:
    """Return a stored key as the rest of the engine knows it."""
    return key if isinstance(key, str) else key.hex()


class Prepared(msgspec.Struct):
    """A change with all its rows encoded, so that the writer only compares and writes.

    The writer fills in the version in a profile's or session's row, and says with `taken` that it wrote the rows now;
    `*_version` is the one that was read, and `*_changed` False means that it is only checked.
    """

    id: Key
    profile: Values | None = None
    profile_version: Version | None = None
    profile_changed: bool = True
    session: Values | None = None
    session_version: Version | None = None
    session_changed: bool = True
    claims: list[Values] = []
    instead: dict[Key, str] = {}
    events: list[Values] = []
    others: list[tuple[str, list[Values]]] = []
    taken: bool = False


def prepare(change: Change) -> Prepared:
    """Encode all documents of a change. Raises StoreError for one that is not JSON."""
    now = iso_now()
    made = Prepared(pack_key(change.id))
    if change.profile:
        made.profile = _profile_row(change.profile, made.id, change.tenant, now)
        made.profile_version = change.profile.version
        made.profile_changed = change.profile.changed or change.profile.version is None
    if change.session:
        made.session = _session_row(change.session, made.id, change.tenant, now)
        made.session_version = change.session.version
        made.session_changed = change.session.changed or change.session.version is None
    if change.claims:
        made.claims = [
            (pack_key(claim.key), change.tenant, claim.profile, encode_doc(claim.doc))
            for claim in change.claims
        ]
        made.instead = {pack_key(one.key): one.instead for one in change.claims if one.instead is not None}
    id, tenant = made.id, change.tenant
    made.events = [_event_row(row, id, tenant, now) for row in change.events]
    if change.marks:
        made.events += [_mark_row(row, id, tenant, now) for row in change.marks]
    owner = _owner(change)
    for table in ("failed", "effects", "timers"):
        rows: list[Row] = getattr(change, table)
        if rows:
            made.others.append((table, listed_rows(rows, table, change.tenant, owner, now)))
    return made


def listed_rows(rows: Sequence[Row], table: str, tenant: str, owner: str | None, now: str) -> list[Values]:
    """Encode failed events, effects, timers or traces; `owner` is the profile of those that name none."""
    made = []
    for key, doc in rows:
        created = time_in(doc, "received", "") or time_in(doc, "created", "") or now
        values = (
            pack_key(key),
            tenant,
            text_or_none(doc.get("type")),
            text_or_none(doc.get("source")),
            text_or_none(doc.get("profile")) or owner,
            text_or_none(doc.get("session")),
            text_or_none(doc.get("event")),
            text_or_none(doc.get("status")),
            created,
            due_at(doc, created) if table in ("effects", "timers") else None,
            encode_doc(doc),
        )
        made.append(values)
    return made


def workflow_values(row: Row, tenant: str, now: str) -> Values:
    """Encode a version of a workflow's file."""
    return pack_key(row.key), tenant, time_in(row.doc, "created", now), encode_doc(row.doc)


def _owner(change: Change) -> str | None:
    """Return the id of the profile that a change is about, if any."""
    if change.profile:
        return text_or_none(change.profile.doc.get("id"))
    if change.session:
        return text_or_none(change.session.doc.get("profile"))
    return text_or_none(change.events[0].doc.get("profile")) if change.events else None


def _profile_row(write: Write, change: Key, tenant: str, now: str) -> Values:
    doc = write.doc
    created = time_in(doc, "created", now)
    data = encode_doc(doc) if write.changed or write.version is None else b""
    hidden = int(doc.get("hidden") is True)
    return (pack_key(write.key), 0, change, tenant, hidden, created, time_in(doc, "updated", now), data)


def _session_row(write: Write, change: Key, tenant: str, now: str) -> Values:
    doc = write.doc
    return (
        pack_key(write.key),
        0,
        change,
        tenant,
        text_or_none(doc.get("source")),
        text_or_none(doc.get("profile")),
        int(doc.get("hidden") is True),
        time_in(doc, "created", now),
        time_in(doc, "updated", now),
        encode_doc(doc) if write.changed or write.version is None else b"",
    )


def _event_row(row: Row, change: Key, tenant: str, now: str) -> Values:
    key, doc = row
    get = doc.get
    times = get("time")
    received = happened = None
    if type(times) is dict:
        received, happened = times.get("received"), times.get("happened")
    if type(received) is not str:
        received, happened = now, None
    return (
        pack_key(key),
        change,
        tenant,
        # A row without a type is a mark: its key is known and nothing else of it is kept.
        get("type") or "",
        get("source"),
        get("profile"),
        get("session"),
        received,
        happened if type(happened) is str else received,
        get("content"),
        get("id"),
        encode_doc(doc),
    )


def _mark_row(row: Row, change: Key, tenant: str, now: str) -> Values:
    key, doc = row
    received = time_in(doc, "received", now)
    return (
        *(pack_key(key), change, tenant, None, None, doc.get("profile"), doc.get("session")),
        *(received, None, doc.get("content"), doc.get("id"), None),
    )
