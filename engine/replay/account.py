"""What happened to one event, then or now, to be compared."""

from dataclasses import dataclass, field
from typing import Any

from headrace.engine.language.past import OWN_TYPES
from headrace.engine.model import Doc, EventError, make_key
from headrace.engine.passage import Passage
from headrace.engine.replay.past import REFUSED
from headrace.engine.run import Run
from headrace.engine.store.looking import Looking
from headrace.engine.store.protocol import AskKind, Query, Row
from headrace.engine.story import INTERNAL, caused
from headrace.engine.trace import full_trace, run_record, skipped_record, trace_key

MOST_OF_EVENT = 500
"""Effects, or timers, of one event that are compared."""

MOST_OF_NODE = 20
"""Internal events and effects of one node among which an event is looked for."""


@dataclass
class Account:
    """Runs by workflow, effects and timers by key, and what workflows changed where that is known.

    `runs` are records as in an event's document, skipped workflows too. `changes` has a list for each run of which
    there is a trace. `events` are the internal events that it caused, each with its own account.
    """

    type: str = ""
    key: str = ""
    about: Doc = field(default_factory=dict)
    """Of which segment or goal an internal event is: `{"segment": NAME}`, `{"goal": NAME}`, or nothing."""
    refused: str = ""
    runs: dict[str, Doc] = field(default_factory=dict)
    changes: dict[str, list[Doc]] = field(default_factory=dict)
    effects: dict[str, Doc] = field(default_factory=dict)
    timers: dict[str, Doc] = field(default_factory=dict)
    events: dict[str, "Account"] = field(default_factory=dict)


async def account_then(look: Looking, event: Doc) -> tuple[Account, list[Doc]]:
    """Return what the store knows of an event, and the traces that were kept of it and of what it caused."""
    refused = event.get(REFUSED)
    if refused is not None:
        return Account(event["type"], refused=refusal(refused["code"], refused["reasons"])), []
    account = _account(event, event["key"], event["runs"])
    account.effects = await _of_event(look, "effect", event)
    account.timers = _first_waits(await _of_event(look, "timer", event))
    traces = []
    ran = [name for name, run in account.runs.items() if "skipped" not in run]
    for name in ran:
        trace = await look.get("trace", trace_key(event["key"], name))
        if trace is not None and "nodes" in trace:
            traces.append(trace)
            account.changes[name] = _changes(trace)
    # Segments and goals cause some where no workflow ran, too.
    for internal in await caused(look, event):
        inner, more = await account_then(look, internal)
        account.events[internal["key"]] = inner
        traces += more
    return account, traces


async def _of_event(look: Looking, kind: AskKind, event: Doc) -> dict[str, Doc]:
    query = Query(kind, tenant=event["tenant"], event=event["key"], limit=MOST_OF_EVENT)
    return {doc["id"]: doc for doc in (await look.find(query)).items}


def account_now(
    passages: list[Passage], errors: list[EventError], effects: list[Row], timers: list[Row]
) -> Account:
    """Return what a replay did; the first passage is the event's own."""
    if not passages:
        return Account(refused="; ".join(f"{error.code}: {error.message}" for error in errors))
    first, *others = passages
    account = _of_passage(first, effects, timers)
    account.events = {passage.key: _of_passage(passage, effects, timers) for passage in others}
    return account


def emitter(account: Account, key: str) -> str:
    """Return the workflow that emitted an internal event, by the event's key; "" when none did, or none is known."""
    for name, run in account.runs.items():
        for step in str(run.get("path", "")).split():
            node = step.partition(".")[0]
            for number in range(1, MOST_OF_NODE + 1):
                if make_key("emitted", account.key, name, node, str(number)) == key:
                    return name
    return ""


def _account(event: Doc, key: str, records: list[Doc]) -> Account:
    about: Doc = {}
    if event["type"] in OWN_TYPES and event["door"] == INTERNAL:
        given = event["properties"]
        about = {name: str(given[name]) for name in ("segment", "goal") if name in given}
    return Account(event["type"], key, about, runs=_by_workflow(records))


def _of_passage(passage: Passage, effects: list[Row], timers: list[Row]) -> Account:
    event = passage.event
    records = [run_record(run) for run in passage.runs]
    records += [skipped_record(workflow, why) for workflow, why in passage.skipped]
    account = _account(event, passage.key, records)
    account.changes = {run.workflow.name: _changes(_trace_of(run, event)) for run in passage.runs}
    account.effects = {row.key: row.doc for row in effects if row.doc["event"] == passage.key}
    account.timers = _first_waits({row.key: row.doc for row in timers if row.doc["event"] == passage.key})
    return account


def _first_waits(timers: dict[str, Doc]) -> dict[str, Doc]:
    """Return the timers of runs that wait for the first time: a replay goes no further than that."""
    first = {key: doc for key, doc in timers.items() if not doc.get("number")}
    return {key: doc for key, doc in first.items() if doc.get("kind", "run") == "run"}


def _trace_of(run: Run, event: Doc) -> Doc:
    return full_trace(run, str(event["id"]))


def _by_workflow(records: list[Doc]) -> dict[str, Doc]:
    return {record["workflow"]: record for record in records}


def _changes(trace: Doc) -> list[Doc]:
    """Return every change of a run that outlives it, with the node that made it."""
    return [
        {"node": name, **change}
        for name, node in trace["nodes"].items()
        for change in node.get("changes", ())
        if not change["path"].startswith(("vars", "response"))
    ]


def refusal(code: str, reasons: list[Any]) -> str:
    """Return why an event was refused, in a line."""
    return f"{code}: " + "; ".join(
        f"{each['pointer']}: {each['message']}".removeprefix(": ") for each in reasons
    )
