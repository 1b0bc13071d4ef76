"""The words of Headrace as data: requests, documents, keys and times.

Events, sessions and profiles are plain JSON documents (`Doc`) while they are worked on, because expressions look
them up by key, stores keep them whole, and a document costs nothing to make. The functions here make new ones, so
that each shape is written down once.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from time import time_ns
from typing import Any

import msgspec
import uuid_utils

Doc = dict[str, Any]
"""A JSON object: text, numbers, booleans, null, lists and objects only."""

WEBHOOK_DEAD = "webhook-dead"
"""The type of the internal event that an effect makes which is given up; it need not be declared."""

_encode = msgspec.json.Encoder().encode
_canonical = msgspec.json.Encoder(order="sorted").encode


def make_key(kind: str, *parts: str) -> str:
    """Return the document id of a thing: 128 bits of BLAKE2b, in hex, over the JSON list of its kind and names.

    Events have `make_key("event", tenant, source, id)`; sessions and profiles `make_key(kind, tenant, id)`.
    """
    return blake2b(_encode((kind, *parts)), digest_size=16).hexdigest()


@lru_cache(maxsize=4096)
def doc_key(kind: str, tenant: str, id: str) -> str:
    """Return `make_key` of a session or profile, whose key is needed several times in a request."""
    return make_key(kind, tenant, id)


def content_hash(value: Any) -> str:
    """Return a hash of a JSON value that does not depend on the order of members."""
    return blake2b(_canonical(value), digest_size=16).hexdigest()


MAX_ID = 256
ID_RULE = f"should have 1 to {MAX_ID} characters after trimming, none of them a control character"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def clean_id(text: str) -> str | None:
    """Return an id that was given from outside without blanks around it, or None when it is no id: see `ID_RULE`."""
    text = text.strip()
    if 0 < len(text) <= MAX_ID and (text.isprintable() or not _CONTROL.search(text)):
        return text
    return None


def new_id() -> str:
    """Return a random id (uuid4), for things whose id a client may see and must not guess."""
    return str(uuid_utils.uuid4())


def new_event_id() -> str:
    """Return an id that grows with time (uuid7), for events that come without one."""
    return str(uuid_utils.uuid7())


def utc_now() -> datetime:
    """Return the time now, in UTC."""
    return datetime.now(UTC)


def iso(time: datetime) -> str:
    """Write a UTC time as all documents keep it: ISO 8601 with milliseconds and `Z`."""
    return time.isoformat(timespec="milliseconds")[:23] + "Z"


def iso_now() -> str:
    """Write the time now as `iso` does. It is asked for with every event, and many have one millisecond."""
    return _iso_of(time_ns() // 1_000_000)


@lru_cache(maxsize=8)
def _iso_of(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_to_the_second(seconds)}.{rest:03}Z"


@lru_cache(maxsize=2)
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


def from_iso(text: str) -> datetime:
    """Read a time that `iso` wrote."""
    return datetime.fromisoformat(text)


class EventInput(msgspec.Struct):
    """One event as a client sent it; `id`, `time` and `version` may be absent (None)."""

    type: str
    properties: Doc = {}
    context: Doc = {}
    id: str | None = None
    time: str | None = None
    save: bool = True
    version: str | None = None


class Options(msgspec.Struct):
    """What the client wants to be kept and answered: `options` of a request."""

    debugger: bool = False
    profile: bool = False
    save_session: bool = True
    save_events: bool = True


class Caller(msgspec.Struct):
    """What the door knows about who sends: the address, headers that matter, and the secret, if any."""

    ip: str | None = None
    user_agent: str | None = None
    referrer: str | None = None
    origin: str | None = None
    secret: str | None = None
    do_not_track: bool = False
    admin: bool = False


class TrackRequest(msgspec.Struct):
    """One request of any door, after parsing: what was sent, by whom, and when it arrived.

    `session_id` is None for doors that make no session (`/collect`). `profile_less` requests neither read nor make a
    profile until a workflow attaches one. `sent_at` is the client's clock when it sent, for the correction of skew.
    `size` is the bytes of the body that it came in, unpacked; 0 when it came in none.
    """

    source_id: str
    events: list[EventInput]
    door: str
    received: datetime
    session_id: str | None = None
    profile_id: str | None = None
    context: Doc = {}
    properties: Doc = {}
    options: Options = msgspec.field(default_factory=Options)
    caller: Caller = msgspec.field(default_factory=Caller)
    profile_less: bool = False
    idempotency_key: str | None = None
    sent_at: str | None = None
    trace_parent: str | None = None
    size: int = 0


class EventError(msgspec.Struct):
    """An event that was refused, named in the answer: its id, a code word and a sentence."""

    event: str
    code: str
    message: str


class Answer(msgspec.Struct):
    """What a door may tell the client about a request, after its durable write.

    `profile` is None when there is none; how much of it the client may see is decided in the step `answer`.
    `events` are the ids in order, duplicates included. `debugging` is None unless it was asked for and is allowed.
    `not_kept` says why nothing was kept at all (`dnt`, `bot`), or is empty.
    """

    consent: bool
    profile: Doc | None = None
    session_id: str | None = None
    events: list[str] = []
    errors: list[EventError] = []
    response: Doc = {}
    debugging: Doc | None = None
    debugger_refused: bool = False
    not_kept: str = ""


def new_profile(profile_id: str, tenant: str, now: str) -> Doc:
    """Return the document of a profile of which nothing is known yet."""
    return {
        "id": profile_id,
        "ids": [profile_id],
        "tenant": tenant,
        "traits": {},
        "segments": [],
        "interests": {},
        "consents": {},
        "marks": {},
        "stats": {"visits": 0, "views": 0, "counters": {}},
        "time": {"created": now, "updated": now, "last_visit": now},
    }


def new_session(session_id: str, tenant: str, source: str, now: str) -> Doc:
    """Return the document of a session that begins; `profile` is None until it has one."""
    return {
        "id": session_id,
        "tenant": tenant,
        "profile": None,
        "visitor": None,
        "source": source,
        "context": {},
        "properties": {},
        "time": {"created": now, "updated": now},
        "device": {},
        "utm": {},
        "referrer": None,
        "stats": {"events": 0, "views": 0},
        "n": 0,
    }


def is_consented(profile: Mapping[str, Any] | None, name: str, now: str) -> bool:
    """Say whether a profile gave a consent that still holds; anything missing means no."""
    consent = (profile or {}).get("consents", {}).get(name)
    if not isinstance(consent, Mapping) or consent.get("given") is not True:
        return False
    until = consent.get("until")
    if until is None:
        return True
    try:
        ends = datetime.fromisoformat(until)
        return (ends if ends.tzinfo else ends.replace(tzinfo=UTC)) > from_iso(now)
    except (TypeError, ValueError):
        return False
