"""POST /track: from bytes to a TrackRequest, and back to JSON."""

from typing import Any

import msgspec

from headrace.api.doors.body import decode_json, query_pairs
from headrace.api.doors.call import Call
from headrace.api.doors.fields import Findings, clean_id, is_event_type, too_many_events
from headrace.engine import strict_json
from headrace.engine.errors import FieldError, InputError
from headrace.engine.model import Answer, Doc, EventInput, Options, TrackRequest, utc_now

_TRUE, _FALSE = ("true", "1"), ("false", "0")


class Named(msgspec.Struct, gc=False):
    """Something named by its id."""

    id: str | None = None


class EventOptions(msgspec.Struct, gc=False):
    """What the client wants for one event."""

    save: bool = True


class EventBody(msgspec.Struct):
    """One event."""

    type: str
    properties: Doc | None = None
    context: Doc | None = None
    id: str | None = None
    time: str | None = None
    options: EventOptions | None = None


class OptionsBody(msgspec.Struct, rename="camel", gc=False):
    """What the client wants to be kept and answered."""

    debugger: bool = False
    profile: bool = False
    save_session: bool = True
    save_events: bool = True


class TrackBody(msgspec.Struct, rename="camel"):
    """The body of /track."""

    source: Named
    session: Named
    events: list[EventBody]
    profile: Named | None = None
    context: Doc | None = None
    properties: Doc | None = None
    options: OptionsBody | None = None
    sent_at: str | None = None


_decode = msgspec.json.Decoder(TrackBody).decode
_encode = msgspec.json.Encoder().encode


def parse_track(call: Call, body: bytes) -> TrackRequest:
    """Return the request that a body is. Raises InputError 400, 413 or 422 with every bad field."""
    limit = call.settings.max_events_per_request
    try:
        typed = _decode(body)
    except (ValueError, RecursionError):
        return read_track(decode_json(call, body), limit)
    strict_json.check_depth(body)
    # Whatever is not plain goes the long way, which finds all that is wrong.
    return _plain(typed, limit) or read_track(strict_json.decode(body), limit)


def _plain(body: TrackBody, limit: int) -> TrackRequest | None:
    """Return the request of a body in which nothing is odd, else None."""
    source, session = body.source.id, body.session.id
    profile = body.profile.id if body.profile else None
    if source is None or session is None or len(body.events) > limit:
        return None
    source, session = clean_id(source), clean_id(session)
    if source is None or session is None:
        return None
    if profile is not None and (profile := profile.strip() or None) and clean_id(profile) is None:
        return None
    events: list[EventInput] = []
    for event in body.events:
        event_id = event.id
        if not is_event_type(event.type):
            return None
        if event_id is not None and (event_id := event_id.strip() or None) and clean_id(event_id) is None:
            return None
        save = event.options is None or event.options.save
        events.append(
            EventInput(
                event.type, event.properties or {}, event.context or {}, event_id, event.time or None, save
            )
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
        time = time.get("create") or time.get("insert")
    return EventInput(
        find.event_type(event.get("type"), f"{pointer}/type"),
        find.object(event.get("properties"), f"{pointer}/properties"),
        find.object(event.get("context"), f"{pointer}/context"),
        find.optional_id(event.get("id"), f"{pointer}/id"),
        find.text(time, f"{pointer}/time"),
        find.flag(options, "save", f"{pointer}/options", default=True),
    )


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
    found: Doc = {}
    if answer.profile is not None:
        found["profile"] = answer.profile
    found["session"] = {"id": answer.session_id or request.session_id}
    found["source"] = {"consent": answer.consent}
    add_said(found, answer)
    return _encode(found)


def add_said(found: Doc, answer: Answer) -> None:
    """Add what both doors say alike: errors, response, debugging, and why nothing was kept."""
    if answer.errors:
        found["errors"] = answer.errors
    if answer.response:
        found["response"] = answer.response
    if answer.debugging is not None:
        found["debugging"] = answer.debugging
    if answer.not_kept:
        found["not_kept"] = answer.not_kept
