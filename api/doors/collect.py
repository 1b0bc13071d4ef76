"""POST and GET /collect/{event type}/{source id}: a body becomes one event's properties."""

from typing import Annotated
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Meta

from headrace.api.doors.body import decode_json, query_pairs
from headrace.api.doors.call import Call
from headrace.api.doors.fields import Findings
from headrace.api.doors.track import Refused, WithId, refused
from headrace.engine.errors import FieldError, InputError
from headrace.engine.model import Answer, Doc, EventInput, TrackRequest, utc_now

_encode = msgspec.json.Encoder().encode


def path_parts(call: Call) -> list[str] | None:
    """Return the decoded parts behind /collect/, or None when there are not two. Raises InputError 422."""
    raw: bytes = call.scope.get("raw_path") or call.scope["path"].encode()
    parts = raw.split(b"/")[2:]
    if len(parts) != 2 or not all(parts):
        return None
    try:
        return [unquote_to_bytes(part).decode() for part in parts]
    except UnicodeDecodeError:
        raise InputError(422, "bad_fields", "The path is not UTF-8 when it is decoded.") from None


def parse_collect(call: Call, parts: list[str], body: bytes) -> TrackRequest:
    """Return the request of one event without session and profile. Raises InputError 400 or 422."""
    find = Findings()
    event_type = find.event_type(parts[0], "")
    source_id = find.id(parts[1], "")
    if find.errors:
        what = "event type" if not event_type else "source id"
        raise InputError(422, "bad_fields", f"The {what} in the path {find.errors[0].message}.", find.errors)
    is_query = call.method == "GET"
    properties = query_pairs(call.scope["query_string"]) if is_query else _properties(call, body)
    return TrackRequest(
        source_id, [EventInput(event_type, properties)], "collect", utc_now(), profile_less=True
    )


def _properties(call: Call, body: bytes) -> Doc:
    if not body.strip():
        return {}
    value = decode_json(call, body)
    if not isinstance(value, dict):
        raise InputError(
            422, "bad_fields", "The body should be an object.", [FieldError("", "should be an object")]
        )
    return value


class CollectAnswer(msgspec.Struct, omit_defaults=True):
    """The answer of /collect; members with nothing to say are left out."""

    event: Annotated[WithId | None, Meta(description="The event; the server made its id.")] = None
    profile: Annotated[Doc | None, Meta(description="The profile that a workflow attached.")] = None
    errors: list[Refused] = []
    response: Annotated[Doc, Meta(description="What `respond` nodes said.")] = {}
    not_kept: Annotated[str, Meta(description="Why nothing was kept: `dnt` or `bot`.")] = ""


def collect_answer(answer: Answer) -> bytes:
    """Return the JSON of an answer."""
    event = WithId(answer.events[0]) if answer.events else None
    return _encode(CollectAnswer(event, answer.profile, refused(answer), answer.response, answer.not_kept))
