"""The whole story of one event: what happened to it, and why."""

from dataclasses import replace
from datetime import timedelta

from headrace.engine.draft import PROFILE_BY
from headrace.engine.identity.follow import MERGED, read_stored
from headrace.engine.identity.values.decide import WHY
from headrace.engine.model import Doc, from_iso, make_key
from headrace.engine.store.looking import Looking
from headrace.engine.store.protocol import Ask, AskKind, Query, Store
from headrace.engine.timers.waiting import shown_timer
from headrace.engine.trace import WHY_NOT, trace_key

MOST = 200
"""Effects, timers, internal events and replays of one event that its story tells; there may be more."""

MOST_AT_ONCE = 1_000
"""Events of one visitor among which those are looked for that an event caused, or that are replays of it."""

INTERNAL = "internal"
"""The door of what the engine makes itself."""

REPLAY = "replay"
"""The type under which a replay that was applied is kept."""

MOMENT = timedelta(milliseconds=1)


async def story(store: Store | Looking, tenant: str, key: str) -> Doc | None:
    """Return an event with all that is known of it, or None.

    Its door and identity; its runs and why other workflows did not run; a trace with each run of which one was kept;
    effects with their attempts, timers; the event that caused it and those that it caused, as `{"id", "key", "type"}`;
    what was refused under its id; the replays of it that were applied.
    """
    event = await store.get("event", key)
    if event is None or event["tenant"] != tenant:
        return None
    runs = [await _told(store, event, run) for run in event["runs"]]
    cause_of_it = await cause(store, event)
    timers = [await _told_timer(store, event, doc) for doc in await _of_event(store, "timer", event)]
    return {
        "event": {name: value for name, value in event.items() if name != "runs"},
        "door": event["door"],
        "profile": event["profile"],
        "session": event["session"],
        "identity": identity(event) | await merged(store, event),
        "caused_by": None if cause_of_it is None else _named(cause_of_it),
        "runs": [run for run in runs if "skipped" not in run],
        "skipped": [run for run in runs if "skipped" in run],
        "effects": await _of_event(store, "effect", event),
        "timers": timers,
        "caused": [_named(each) for each in await caused(store, event, later=bool(timers))],
        "refused": await refusals(store, tenant, event["id"], event["source"]),
        "replay_of": event.get("replay_of"),
        "replays": await replays(store, event),
    }


async def story_of_refused(
    store: Ask | Looking, tenant: str, id: str, source: str | None = None
) -> Doc | None:
    """Return what is known of an event that was never accepted, in the shape of a story, or None."""
    refused = await refusals(store, tenant, id, source)
    if not refused:
        return None
    nothing: Doc = dict.fromkeys(
        ("event", "door", "profile", "session", "identity", "caused_by", "replay_of")
    )
    none: Doc = {name: [] for name in ("runs", "skipped", "effects", "timers", "caused", "replays")}
    return nothing | none | {"refused": refused}


def identity(event: Doc) -> Doc:
    """Return which profile the event belongs to, how it came to it (`by`), and that in words (`why`).

    `by` is one of `PROFILE_BY`, or `workflow`, `cause`, `engine`, or None for an event without a profile. `asked` is an
    id that the client named and did not get; `identified` tells what each identifying value meant, without the value.
    """
    by: str | None = event.get("profile_by")
    if event["profile"] is None:
        by, why = None, "the event has no profile"
    elif "emitted_by" in event:
        by, why = "cause", "it is the profile of the event that caused it"
    elif event["door"] == INTERNAL:
        by, why = "engine", "the event was made for it, by a schedule or for a call that was given up"
    elif by is None:
        by, why = "workflow", "a workflow gave it to the event"
    else:
        why = PROFILE_BY[by]
    told = {"profile": event["profile"], "session": event["session"], "by": by, "why": why}
    if "identified" in event:
        told["identified"] = [one | {"why": WHY.get(one["decision"], "")} for one in event["identified"]]
    asked = event.get("profile_asked")
    return told if asked is None else told | {"asked": asked}


async def merged(store: Store | Looking, event: Doc) -> Doc:
    """Return which profiles the event's became since: `merged`, or nothing when it is the one that it was."""
    profile = event.get("profile_then") or event["profile"]
    merges = []
    while profile is not None and (found := await read_stored(store, event["tenant"], profile)) is not None:
        doc = found.doc
        if MERGED not in doc:
            break
        merges.append({"profile": doc["id"], "into": doc[MERGED], "at": doc["merged_at"], "by": doc["by"]})
        profile = doc[MERGED]
    return {"merged": merges} if merges else {}


async def cause(store: Ask | Looking, event: Doc) -> Doc | None:
    """Return the event that caused an internal one, or None."""
    parent = event.get("emitted_by")
    if parent is None:
        return None
    # The id of an internal event is its key.
    return await store.get("event", parent) or await store.get(
        "event", make_key("event", event["tenant"], event["source"], parent)
    )


async def caused(store: Ask | Looking, event: Doc, *, later: bool = False) -> list[Doc]:
    """Return the internal events that an event caused, in their order; they have its received time.

    With `later` also those of runs that went on after a wait, as far as they are among the visitor's newest.
    """
    begins = from_iso(event["time"]["received"])
    until = None if later else begins + MOMENT
    query = replace(_of_visitor(event), since=begins, until=until, limit=MOST_AT_ONCE)
    found = (await store.find(query)).items
    return [doc for doc in reversed(found) if doc.get("emitted_by") == event["id"]]


async def replays(store: Ask | Looking, event: Doc) -> list[Doc]:
    """Return the replays of an event that were applied, oldest first; each is an event with a story of its own."""
    since = from_iso(event["time"]["received"])
    query = replace(_of_visitor(event), type=REPLAY, since=since, limit=MOST_AT_ONCE)
    found = (await store.find(query)).items
    return [
        {"key": doc["key"], "received": doc["time"]["received"], **doc["properties"], "runs": doc["runs"]}
        for doc in reversed(found)
        if doc.get("replay_of") == event["key"]
    ]


def _of_visitor(event: Doc) -> Query:
    """Return the question for the events of the same source and visitor, which are found by an index."""
    query = Query("event", tenant=event["tenant"], source=event["source"])
    profile = event["profile"]
    return replace(query, profile=profile) if profile else replace(query, session=event["session"])


async def refusals(store: Ask | Looking, tenant: str, id: str, source: str | None = None) -> list[Doc]:
    """Return what was refused under an event's id, oldest first: when, from where, why."""
    query = Query("failed", tenant=tenant, event=id, source=source, limit=MOST)
    members = ("id", "source", "type", "door", "received", "code", "reasons")
    found = (await store.find(query)).items
    return [
        {name: doc.get(name) for name in members} | {name: doc[name] for name in ("resent",) if name in doc}
        for doc in reversed(found)
    ]


def _named(event: Doc) -> Doc:
    return {"id": event["id"], "key": event["key"], "type": event["type"]}


async def _told_timer(store: Ask | Looking, event: Doc, doc: Doc) -> Doc:
    """Return a timer with what its run did when it went on."""
    told = shown_timer(doc)
    if "runs" in told:
        # Only the run that waited has been there before.
        number = doc["number"] + 1
        told["runs"] = [
            await _told(store, event, run, number if run["workflow"] == doc["workflow"] else 0)
            for run in told["runs"]
        ]
    return told


async def _told(store: Ask | Looking, event: Doc, run: Doc, number: int = 0) -> Doc:
    if "skipped" in run:
        return run | {"why": WHY_NOT.get(run["skipped"], run["skipped"])}
    trace = await store.get("trace", trace_key(event["key"], run["workflow"], number))
    return run if trace is None else run | {"trace": trace}


async def _of_event(store: Ask | Looking, kind: AskKind, event: Doc) -> list[Doc]:
    query = Query(kind, tenant=event["tenant"], event=event["key"], limit=MOST)
    return (await store.find(query)).items
