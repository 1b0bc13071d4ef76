"""The whole story of one event: what happened to it, and why."""

from headrace.engine.model import Doc
from headrace.engine.store.protocol import Ask, Query
from headrace.engine.trace import WHY_NOT, trace_key


async def story(store: Ask, tenant: str, key: str) -> Doc | None:
    """Return an event with its runs, why other workflows did not run, its traces, effects and timers, or None.

    `runs` come from the event's own document; `trace` is there where one was kept.
    """
    event = await store.get("event", key)
    if event is None or event["tenant"] != tenant:
        return None
    runs = [await _told(store, event, run) for run in event["runs"]]
    return {
        "event": {name: value for name, value in event.items() if name != "runs"},
        "door": event["door"],
        "profile": event["profile"],
        "session": event["session"],
        "runs": [run for run in runs if "skipped" not in run],
        "skipped": [run for run in runs if "skipped" in run],
        "effects": await _of_event(store, "effect", event),
        "timers": await _of_event(store, "timer", event),
    }


async def _told(store: Ask, event: Doc, run: Doc) -> Doc:
    if "skipped" in run:
        return run | {"why": WHY_NOT.get(run["skipped"], run["skipped"])}
    trace = await store.get("trace", trace_key(event["key"], run["workflow"]))
    return run if trace is None else run | {"trace": trace}


async def _of_event(store: Ask, kind: str, event: Doc) -> list[Doc]:
    query = Query(kind, tenant=event["tenant"], event=event["key"], limit=200)  # type: ignore[arg-type]
    return (await store.find(query)).items
