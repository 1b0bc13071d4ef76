"""Every path, declared once: what it takes, what it answers, and why."""

from headrace.api.doors.collect import CollectAnswer
from headrace.api.doors.track import TrackAnswer, TrackBody
from headrace.api.operations import Health, Ready
from headrace.api.paths import Given, Path, problems, read
from headrace.api.profiles import Merged, TakenApart, WithWhom
from headrace.api.reading import (
    NDJSON,
    Erased,
    Items,
    OfEffects,
    OfEvents,
    OfFailed,
    OfProfiles,
    OfSessions,
    OfSource,
    OfTenant,
    OfTimers,
)
from headrace.api.segments import OfMember
from headrace.api.stories import Story
from headrace.engine.model import Doc

_DOOR = problems(
    _400="The body is not strict JSON, or not packed as its Content-Encoding says; the place is named.",
    _401="The source is unknown or disabled, or the key is wrong. The answer does not say which, so that nobody "
    "can find out what sources there are.",
    _403="The source does not take events from this web origin, or not by this door.",
    _408="The body took too long to arrive; the connection is closed.",
    _413="The body, the number of events, or what they become is above the limit. Nothing was kept: send less at once.",
    _415="The Content-Encoding is not gzip or deflate.",
    _422="Fields are wrong; `errors` names every one of them. Nothing was kept.",
    _429="The source sends more than its rate limit; `Retry-After` says when to go on.",
    _500="A fault of ours; the log has it under the request's id.",
    _503="The store cannot take it, or too much is under way. Nothing was kept; `Retry-After` says when to try again.",
)
_DOOR_HEADERS = {
    "Authorization": "A secret key of the source, as Bearer token or as the user of Basic.",
    "Idempotency-Key": "Stands for the ids of events that have none: sent again, they count once.",
    "webhook-id": "The same, under the name that webhooks use.",
    "traceparent": "W3C trace context; it is taken over.",
    "DNT": "1: nothing is kept, where the source respects it. `Sec-GPC: 1` means the same.",
}
DOOR_RULES: tuple[tuple[str, str], ...] = (
    (
        "A body is read as JSON whatever its Content-Type is, also inside a form.",
        "Browsers' beacons and SDKs send `text/plain`, a form, or nothing at all.",
    ),
    (
        "`gzip` and `deflate` are unpacked, no further than the limit of a body.",
        "A few packed bytes can stand for gigabytes.",
    ),
    (
        "JSON is strict: no NaN, no lone surrogates, at most 64 levels. Numbers keep their value (to 4,300 digits).",
        "What was acknowledged must come back as it was sent.",
    ),
    (
        "Of members of the same name the last wins; unknown members are ignored.",
        "Newer clients may say more than this server knows.",
    ),
    ('`null` and `""` for an optional id mean that there is none.', "Clients keep empty cookies."),
    (
        "CORS: the asking origin is echoed, never `*`, with credentials, on errors too.",
        "Browsers drop what they may not read, a beacon without a word. A source may restrict its origins (403).",
    ),
    (
        "An event with an id, or a request with an `Idempotency-Key`, counts once, however often it is sent.",
        "A client that got no answer can only send again. With the key, the ids are the key and the place: `key/0`.",
    ),
    (
        "`DNT: 1` and `Sec-GPC: 1`: 200, nothing is kept, `not_kept` says why. The same for bots that a source drops.",
        "The visitor said so; an error would make clients send again.",
    ),
    (
        "`debugging` needs `headrace dev`, `HEADRACE_DEBUGGER=on`, a source that allows it, or the admin token.",
        "It shows how people are judged. Where it is not allowed the answer has `X-Debugger: refused`.",
    ),
    (
        "A body without `source` is 401 like an unknown source; a `source` without an id is 422.",
        "The first names nobody, the second is a mistake in the field.",
    ),
)
_COLLECT_PARTS = {"event_type": "The type of the event, encoded for a URL.", "source_id": "The source."}
_COLLECTED = {
    200: Given("The event is durable and processed. No session and no profile is made.", CollectAnswer),
    **_DOOR,
}

_WITH_BODY = problems(
    _400="The body is not strict JSON, or not packed as its Content-Encoding says.",
    _408="The body took too long to arrive; the connection is closed.",
    _413="The body is above the limit.",
    _415="The Content-Encoding is not gzip or deflate.",
    _422="A query parameter, or a field of the body, is wrong; `errors` names every one of them.",
)
_PROFILE_GONE = problems(_404="There is no such profile.")
_EVENT_GONE = problems(
    _404="There is no such event.", _409="More than one source used this id; `source` decides."
)
_EFFECT_GONE = problems(_404="There is no such effect.")
_EFFECT_ID = {"id": "The effect's id."}
_TIMER_GONE = problems(_404="There is no such timer.")
_TIMER_ID = {"id": "The timer's id."}
_SEGMENT_GONE = problems(_404="There is no such segment with a condition, or no such profile.")
_FAILED_GONE = problems(_404="There is no such failed event.")
_FAILED_ID = {"id": "The failed event's own id, `id`; `event` is that of the event."}
_ANY_ID = {"id": "The profile's id, or that of one that was merged into it."}
_EVENT_ID = {"id": "The event's key, or the id that the client gave it."}


ROUTES: tuple[Path, ...] = (
    Path(
        "POST",
        "/track",
        "track",
        "Send events of a visit",
        {
            200: Given("All is durable and processed. Also for events that were sent before.", TrackAnswer),
            **_DOOR,
        },
        "Takes one or more events of one session. They are processed in order, and event 2 sees what event 1 "
        "changed. The first contact makes a profile and answers its id; send it with every later request. An id "
        "that the server did not give out is not adopted: a client may not choose whom it is.",
        "Doors",
        body=TrackBody,
        query={
            "profile_less": (
                "No profile is made or read until a workflow attaches one.",
                ["true", "false", "1", "0"],
            )
        },
        headers=_DOOR_HEADERS,
    ),
    Path(
        "POST",
        "/collect/{event_type}/{source_id}",
        "collect",
        "Send one event of another application",
        _COLLECTED,
        "For webhooks of others: the body's object becomes the properties of the event; an empty body is `{}`.",
        "Doors",
        body=Doc,
        parts=_COLLECT_PARTS,
        headers=_DOOR_HEADERS,
    ),
    Path(
        "GET",
        "/collect/{event_type}/{source_id}",
        "collect_query",
        "Send one event as a query string",
        {status: given for status, given in _COLLECTED.items() if status not in (400, 408, 413, 415)},
        "For those who can only call an address: the query string becomes the properties, all of them texts.",
        "Doors",
        parts=_COLLECT_PARTS,
        headers=_DOOR_HEADERS,
    ),
    read(
        "/api/profiles/{id}/export",
        "export",
        "All that is kept of a person",
        OfTenant,
        str,
        answers={200: Given("Lines of JSON, each an object with `kind` and `doc`.", str, NDJSON)}
        | _PROFILE_GONE,
        parts={"id": "Any id that the person ever had."},
        about="The profile first (`profile`), then those that were merged into it (`merged`), then its documents: "
        "`event`, `mark`, `session`, `claim`, `failed`, `effect`, `timer`, `trace`.",
    ),
    read(
        "/api/profiles/{id}/merge",
        "merge",
        "Make one profile of two",
        OfTenant,
        Merged,
        method="POST",
        token="admin",  # noqa: S106
        sent=WithWhom,
        answers=_PROFILE_GONE
        | _WITH_BODY
        | problems(_403="A read token may not do that.", _409="They are one profile already."),
        parts=_ANY_ID,
        about="The older one lives on; the id of the other finds it from now on. `dry_run` changes nothing.",
    ),
    read(
        "/api/profiles/{id}/unmerge",
        "unmerge",
        "Take a profile out of the one that it was merged into",
        OfTenant,
        TakenApart,
        method="POST",
        token="admin",  # noqa: S106
        answers=_PROFILE_GONE
        | problems(
            _403="A read token may not do that.",
            _409="It was not merged, or its survivor was merged on: un-merge that one first.",
        ),
        parts={"id": "The id of the profile that was merged."},
        about="What nobody wrote since is as it was; what came since stays with the survivor.",
    ),
    read("/api/profiles/{id}", "profile", "One profile", OfTenant, Doc, answers=_PROFILE_GONE, parts=_ANY_ID),
    read(
        "/api/profiles/{id}",
        "erase",
        "Erase a person with all that belongs to them",
        OfTenant,
        Erased,
        answers=_PROFILE_GONE | problems(_403="A read token may not erase."),
        method="DELETE",
        token="admin",  # noqa: S106
        parts={"id": "Any id that the person ever had."},
    ),
    read(
        "/api/profiles",
        "profiles",
        "Profiles by traits and segment",
        OfProfiles,
        Items,
        about="`traits.<name>=<value>` may be added any number of times: all must be equal.",
    ),
    read("/api/sessions", "sessions", "Sessions", OfSessions, Items),
    read(
        "/api/sessions/{id}",
        "session",
        "One session",
        OfTenant,
        Doc,
        answers=problems(_404="There is no such session, or it was not to be saved."),
        parts={"id": "The session's id."},
    ),
    read(
        "/api/events/{id}/story",
        "story",
        "What happened to an event",
        OfSource,
        Story,
        answers=_EVENT_GONE,
        parts=_EVENT_ID,
        about="Its door, whose it is and why, its runs and which way they went, why other workflows did not run, "
        "what was sent and what came back, timers, the events that it caused, replays; or why it was refused.",
    ),
    read("/api/events/{id}", "event", "One event", OfSource, Doc, answers=_EVENT_GONE, parts=_EVENT_ID),
    read("/api/events", "events", "Events", OfEvents, Items),
    *(
        read(
            f"/api/effects/{{id}}/{deed}",
            f"{deed}_effect",
            summary,
            OfTenant,
            Doc,
            method="POST",
            token="admin",  # noqa: S106
            answers=_EFFECT_GONE | problems(_403="A read token may not do that.") | more,
            parts=_EFFECT_ID,
            about=about,
        )
        for deed, summary, more, about in (
            (
                "resend",
                "Send an effect again",
                {},
                "It is due now and begins anew, with the same key: a receiver that had it knows it again.",
            ),
            (
                "drop",
                "Drop an effect",
                problems(_409="It was sent already."),
                "Nobody sends it any more. A call that is under way is not stopped.",
            ),
        )
    ),
    read(
        "/api/effects/{id}",
        "effect",
        "One outgoing call, with its attempts",
        OfTenant,
        Doc,
        answers=_EFFECT_GONE,
        parts=_EFFECT_ID,
    ),
    read("/api/effects", "effects", "Outgoing calls", OfEffects, Items),
    read(
        "/api/timers/{id}/cancel",
        "cancel_timer",
        "Cancel a run that waits",
        OfTenant,
        Doc,
        method="POST",
        token="admin",  # noqa: S106
        answers=_TIMER_GONE
        | problems(_403="A read token may not do that.", _409="It went on, or was cancelled, already."),
        parts=_TIMER_ID,
        about="It surely never goes on, nor does anything else for which the run waits.",
    ),
    read(
        "/api/timers/{id}",
        "timer",
        "One run that waits",
        OfTenant,
        Doc,
        answers=_TIMER_GONE,
        parts=_TIMER_ID,
        about="`held` are the nodes that it waits in; once it went on, `runs` say which way.",
    ),
    read("/api/timers", "timers", "Runs that wait, or waited", OfTimers, Items),
    read(
        "/api/segments/{name}/explain",
        "explain_segment",
        "Why a profile is in a segment, or is not",
        OfMember,
        Doc,
        answers=_SEGMENT_GONE,
        parts={"name": "The segment's name."},
        about="`parts` are what `and` and `or` join, each with its value and with what it reads. `holds` is null where "
        "the past of the profile is not known yet: then `unknown` says what is missing, until a rebuild. "
        "`missing_consents` are those that its sources ask for: while one is missing, time alone and a rebuild leave "
        "it where it is.",
    ),
    read(
        "/api/segments",
        "segments",
        "Segments",
        OfTenant,
        Items,
        about="`members` are profiles; `rebuild` is `due` for a condition that was not asked of all profiles yet.",
    ),
    read(
        "/api/failed/{id}/resend",
        "resend_failed",
        "Send a refused event again, mended or as it was",
        OfTenant,
        Doc,
        method="POST",
        token="admin",  # noqa: S106
        sent=Doc,
        answers=_FAILED_GONE
        | _WITH_BODY
        | problems(
            _403="A read token may not do that.",
            _409="It was refused again, and `detail` says why; or its source is gone.",
        ),
        parts=_FAILED_ID,
        about="The body, if there is one, has the members that are changed: `type`, `properties`, `context`, `time`, "
        "`version`. The event keeps its id, so it is never taken twice. `resent` then says when it was sent again.",
    ),
    read(
        "/api/failed/{id}",
        "failed_event",
        "One event that was refused, with the reasons and what was sent",
        OfTenant,
        Doc,
        answers=_FAILED_GONE,
        parts=_FAILED_ID,
    ),
    read("/api/failed", "failed", "Events that were refused, with the reasons", OfFailed, Items),
    Path(
        "GET",
        "/healthz",
        "health",
        "Does the process answer?",
        {200: Given("It does.", Health)},
        group="Operating",
    ),
    Path(
        "GET",
        "/readyz",
        "ready",
        "Can requests be taken?",
        {200: Given("They can.", Ready), 503: Given("They cannot: `status` and `store` say why.", Ready)},
        "`codes` are those of `headrace lint`: files that are broken now, of which the last good version is live. "
        "Details are shown to those with a token.",
        "Operating",
    ),
    Path(
        "GET",
        "/metrics",
        "metrics",
        "Numbers for Prometheus",
        {200: Given("All metrics.", str, "text/plain")},
        group="Operating",
    ),
)
