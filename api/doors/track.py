"""POST /track: from bytes to a TrackRequest, and back to JSON."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from headrace.api.doors.body import decode_json, query_pairs
from headrace.api.doors.call import Call
from headrace.api.doors.fields import (
    ID_SCHEMA,
    MAX_VERSION,
    MAYBE_ID_SCHEMA,
    TIME_SCHEMA,
    TYPE_SCHEMA,
    VERSION_SCHEMA,
    Findings,
    is_event_type,
    read_event,
    too_many_events,
)
from headrace.engine import strict_json
from headrace.engine.errors import FieldError, InputError
from headrace.engine.model import Answer, Doc, EventInput, Options, TrackRequest, clean_id, utc_now

_TRUE, _FALSE = ("true", "1"), ("false", "0")


class WithId(msgspec.Struct, gc=False):
    """Something named by its id."""

    id: Annotated[
        str,
        Meta(
            description="1 to 256 characters after trimming, no control character.",
            extra_json_schema=ID_SCHEMA,
        ),
    ]


class MaybeId(msgspec.Struct, gc=False):
    """Something that may have an id; null and "" are none."""

    id: Annotated[
        str | None,
        Meta(description="1 to 256 characters after trimming.", extra_json_schema=MAYBE_ID_SCHEMA),
    ] = None


class EventOptions(msgspec.Struct, gc=False):
    """What the client wants for one event."""

    save: Annotated[bool, Meta(description="False: the event is processed, not saved.")] = True


class EventBody(msgspec.Struct):
    """One event."""

    type: Annotated[
        str,
        Meta(description="1 to 128 characters, not blank; kept as sent.", extra_json_schema=TYPE_SCHEMA),
    ]
    properties: Annotated[Doc | None, Meta(description="Any members.")] = None
    context: Annotated[Doc | None, Meta(description="Any members; kept with the event.")] = None
    id: Annotated[
        str | None,
        Meta(description="The client's id: sent again, it counts once.", extra_json_schema=MAYBE_ID_SCHEMA),
    ] = None
    time: Annotated[
        str | Doc | None,
        Meta(
            description="When it happened, ISO 8601; or an object with `create` or `insert`.",
            extra_json_schema=TIME_SCHEMA,
        ),
    ] = None
    options: EventOptions | None = None
    version: Annotated[
        str | None,
        Meta(
            description="The version of its event type, where that has several.",
            extra_json_schema=VERSION_SCHEMA,
        ),
    ] = None


class OptionsBody(msgspec.Struct, rename="camel", gc=False):
    """What the client wants to be kept and answered."""

    debugger: Annotated[bool, Meta(description="Answer `debugging`, where it is allowed.")] = False
    profile: Annotated[bool, Meta(description="Answer as much of the profile as may be seen.")] = False
    save_session: Annotated[bool, Meta(description="False: the session is not saved.")] = True
    save_events: Annotated[bool, Meta(description="False: workflows run, events are not saved.")] = True


class TrackBody(msgspec.Struct, rename="camel"):
    """The body of /track. Unknown members are ignored."""

    source: WithId
    session: WithId
    events: Annotated[list[EventBody], Meta(description="Processed in this order; may be empty.")]
    profile: MaybeId | None = None
    context: Annotated[Doc | None, Meta(description="Any members; kept with the session.")] = None
    properties: Annotated[Doc | None, Meta(description="Any members; kept with the session.")] = None
    options: OptionsBody | None = None
    sent_at: Annotated[
        str | None,
        Meta(description="The client's clock as it sent, ISO 8601.", extra_json_schema=TIME_SCHEMA),
    ] = None


class Consent(msgspec.Struct):
    """What the client should know of the source."""

    consent: Annotated[bool, Meta(description="Ask the visitor for consent.")]


class Refused(msgspec.Struct):
    """An event that was refused; it stands among the failed events."""

    event: str
    code: str
    message: str


class TrackAnswer(msgspec.Struct, omit_defaults=True):
    """The answer of /track; members with nothing to say are left out."""

    session: WithId
    source: Consent
    profile: Annotated[Doc | None, Meta(description="Its id; more where asked for and allowed.")] = None
    errors: list[Refused] = []
    response: Annotated[Doc, Meta(description="What `respond` nodes said.")] = {}
    debugging: Annotated[Doc | None, Meta(description="What was saved, and which way events went.")] = None
    not_kept: Annotated[str, Meta(description="Why nothing was kept: `dnt` or `bot`.")] = ""


_decode = strict_json.reader(TrackBody)
_encode = msgspec.json.Encoder().encode


def parse_track(call: Call, body: bytes) -> TrackRequest:
    """Return the request that a body is. Raises InputError 400, 413 or 422 with every bad field."""
    limit = call.settings.max_events_per_request
    try:
        typed: TrackBody = _decode(body)
    except (ValueError, RecursionError):
        request = read_track(decode_json(call, body), limit)
        request.size = len(body)
        return request
    strict_json.check_ignored(body)
    # Whatever is not plain goes the long way, which finds all that is wrong.
    request = _plain(typed, limit) or read_track(strict_json.decode(body), limit)
    request.size = len(body)
    return request


def _plain(body: TrackBody, limit: int) -> TrackRequest | None:
    """Return the request of a body in which nothing is odd, else None."""
    source, session = clean_id(body.source.id), clean_id(body.session.id)
    if source is None or session is None or len(body.events) > limit:
        return None
    profile = body.profile.id if body.profile else None
    if profile is not None and (profile := profile.strip() or None) and clean_id(profile) is None:
        return None
    events: list[EventInput] = []
    known = None
    for event in body.events:
        event_id = event.id
        time = event.time or None
        # Most events of a request are of one type.
        if (event.type != known and not is_event_type(event.type)) or isinstance(time, dict):
            return None
        known = event.type
        if event_id is not None and (event_id := event_id.strip() or None) and clean_id(event_id) is None:
            return None
        if (version := event.version or None) is not None and len(version) > MAX_VERSION:
            return None
        save = event.options is None or event.options.save
        events.append(
            EventInput(event.type, event.properties or {}, event.context or {}, event_id, time, save, version)
        )
    options = body.options
    return TrackRequest(
        source,
        events,
        "track",
        utc_now(),
        session,
        profile,
        body.context or {},
        body.properties or {},
        Options(options.debugger, options.profile, options.save_session, options.save_events)
        if options
        else Options(),
        sent_at=body.sent_at or None,
    )


def read_track(value: Any, limit: int) -> TrackRequest:
    """Return the request that a JSON value is, finding all that is wrong with it."""
    find = Findings()
    if not isinstance(value, dict):
        raise InputError(
            422, "bad_fields", "The body should be an object.", [FieldError("", "should be an object")]
        )
    # An absent source is an unknown one (401); one without an id is a mistake.
    source = value.get("source")
    source_id = "" if source is None else find.id(find.object(source, "/source").get("id"), "/source/id")
    session = value.get("session")
    if session is None:
        find.bad("/session", "is missing")
    session_id = (
        find.id(find.object(session, "/session").get("id"), "/session/id") if session is not None else ""
    )
    events = value.get("events")
    if not isinstance(events, list):
        find.bad("/events", "is missing" if events is None else "should be a list")
        events = []
    if len(events) > limit:
        raise too_many_events(limit)
    request = TrackRequest(
        source_id,
        [_read_event(find, event, f"/events/{place}") for place, event in enumerate(events)],
        "track",
        utc_now(),
        session_id,
        find.optional_id(find.object(value.get("profile"), "/profile").get("id"), "/profile/id"),
        find.object(value.get("context"), "/context"),
        find.object(value.get("properties"), "/properties"),
        _read_options(find, value.get("options")),
        sent_at=find.text(value.get("sentAt"), "/sentAt"),
    )
    find.stop_if_bad()
    return request


def _read_event(find: Findings, event: Any, pointer: str) -> EventInput:
    if not isinstance(event, dict):
        find.bad(pointer, "should be an object")
        return EventInput("")
    options = find.object(event.get("options"), f"{pointer}/options")
    time = event.get("time")
    # Tracardi's clients send an object of times.
    if isinstance(time, dict):
        event = event | {"time": time.get("create") or time.get("insert")}
    given = read_event(find, event, pointer)
    given.save = find.flag(options, "save", f"{pointer}/options", default=True)
    return given


def _read_options(find: Findings, value: Any) -> Options:
    options = find.object(value, "/options")
    return Options(
        find.flag(options, "debugger", "/options", default=False),
        find.flag(options, "profile", "/options", default=False),
        find.flag(options, "saveSession", "/options", default=True),
        find.flag(options, "saveEvents", "/options", default=True),
    )


def is_profile_less(query: bytes) -> bool:
    """Return the query parameter `profile_less`. Raises InputError 422 for what is not true or false."""
    if not query:
        return False
    value = query_pairs(query).get("profile_less")
    word = value.lower() if isinstance(value, str) else value
    if word in _TRUE:
        return True
    if word is None or word in _FALSE:
        return False
    raise InputError(
        422,
        "bad_fields",
        "The query parameter profile_less should be true, false, 1 or 0.",
        [FieldError("", "profile_less should be true, false, 1 or 0")],
    )


def track_answer(request: TrackRequest, answer: Answer) -> bytes:
    """Return the JSON of an answer, with the members that have something to say."""
    return _encode(
        TrackAnswer(
            WithId(answer.session_id or request.session_id or ""),
            Consent(answer.consent),
            answer.profile,
            refused(answer),
            answer.response,
            answer.debugging,
            answer.not_kept,
        )
    )


def refused(answer: Answer) -> list[Refused]:
    """Return the events that were refused."""
    return [Refused(error.event, error.code, error.message) for error in answer.errors]
