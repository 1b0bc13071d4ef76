"""The timer of a run that waits, and its profile's waits."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from headrace.engine.draft import Draft
from headrace.engine.held import Before, Left, Wait
from headrace.engine.model import Doc, from_iso, iso, make_key
from headrace.engine.passage import Passage
from headrace.engine.run import Run
from headrace.engine.store.protocol import Row
from headrace.engine.view import shown

TIME = "$time"
"""The only member of an object that stands for a time in a kept result: JSON has none."""


LEFT_BEHIND = timedelta(days=7)
"""How long after its end a profile's wait may still be met: so long a run that fails is tried."""

UNSHOWN = ("input", "done", "vars", "save", "depth", "lease")
"""Members of a timer that say nothing to people, or too much."""

TimerStatus = Literal["pending", "fired", "cancelled", "missed", "dead"]
STATUSES = get_args(TimerStatus)
"""What a timer may be: it waits, its run went on, it never will, its tick is too old, or it was given up."""


def timer_key(event_key: str, workflow: str, number: int) -> str:
    """Return the id of a timer: that of the first wait of an event in a workflow has the number 0, and so on."""
    return make_key("timer", event_key, workflow, str(number))


async def hold(passage: Passage) -> None:
    """Put a timer into the draft for every run of an event that waits, and let the profile know of it.

    A run that was stopped waits for nothing. Raises StoreError when the version of a workflow cannot be kept.
    """
    for run in passage.runs:
        held = held_of(run)
        if not held or run.stopped:
            continue
        if passage.around.versions is not None:
            await passage.around.versions.keep(run.workflow)
        row = timer_row(passage, run, held)
        passage.draft.timers.append(row)
        let_wait(passage.draft, row.doc)


def held_of(run: Run) -> dict[str, Doc]:
    """Return what the nodes that wait hold, by name."""
    ports = {done.node.name: done.out for done in run.done if done.node.name in run.held}
    now = {name: _held(wait, ports[name].port, ports[name].result) for name, wait in run.held.items()}
    return now if run.before is None else run.before.held | now


def _held(wait: Wait, port: str, result: Any) -> Doc:
    held: Doc = {"due": iso(wait.until), "port": port, "result": packed(result)}
    if wait.types:
        held |= {"types": list(wait.types), "received": wait.port}
        if wait.where:
            held["where"] = wait.where
    return held


def timer_row(passage: Passage, run: Run, held: dict[str, Doc]) -> Row:
    """Return the timer of a run that waits: all that is needed to go on with it."""
    draft, workflow, before = passage.draft, run.workflow, run.before
    number = before.number if before is not None else 0
    key = timer_key(passage.key, workflow.name, number)
    first = min(held, key=lambda name: (held[name]["due"], name))
    doc: Doc = {
        "id": key,
        "kind": "run",
        "tenant": draft.tenant,
        "event": passage.key,
        "source": passage.source["id"],
        "profile": draft.profile["id"] if draft.profile else None,
        "session": draft.session["id"] if draft.session and draft.save_session else None,
        "workflow": workflow.name,
        "version": workflow.version,
        "number": number,
        "node": first,
        "held": held,
        "due": held[first]["due"],
        "status": "pending",
        "created": iso(passage.now),
        "input": {**passage.event, "runs": _ran(passage), "errors": []},
        "done": _done(run),
        "vars": shown(run.vars),
        "save": passage.save,
        "depth": passage.depth,
    }
    if run.by:
        doc["started_by"] = run.by
    return Row(key, doc)


def _ran(passage: Passage) -> list[Doc]:
    """Return which workflows ran for the event: a run that goes on starts none of them."""
    return [{"workflow": name} for name in sorted(passage.ran())]


def _done(run: Run) -> list[Left]:
    """Return the nodes that were left so far."""
    before = [] if run.before is None else [*run.before.done, *run.before.leaving]
    now = [
        (done.node.name, done.out.port, done.out.result)
        for done in run.done
        if done.node.name not in run.held
    ]
    return [(name, port, packed(result)) for name, port, result in (*before, *now)]


def let_wait(draft: Draft, timer: Doc) -> None:
    """Let the profile know which events a run waits for."""
    entries = [
        {
            "timer": timer["id"],
            "event": timer["event"],
            "workflow": timer["workflow"],
            "version": timer["version"],
            "number": timer["number"],
            "node": node,
            "types": held["types"],
            "until": held["due"],
            **{name: held[name] for name in ("where", "met") if name in held},
        }
        for node, held in timer["held"].items()
        if "types" in held
    ]
    if entries:
        # Of a run that could never go on an entry is left behind.
        oldest = iso(from_iso(timer["created"]) - LEFT_BEHIND)
        draft.waits = [*(entry for entry in draft.waits if entry["until"] > oldest), *entries]
        draft.touched.add("profile")


def shown_timer(doc: Doc) -> Doc:
    """Return a timer as it is shown: without what only its run needs to go on."""
    told = {name: value for name, value in doc.items() if name not in UNSHOWN}
    if "held" in doc:
        told["held"] = {
            node: {name: value for name, value in held.items() if name != "result"}
            for node, held in doc["held"].items()
        }
    return told


def take_waits(draft: Draft, timer: Doc) -> dict[str, Doc]:
    """Take out of the profile what a run waits for; returns the entries by node."""
    mine = [entry for entry in draft.waits if belongs(entry, timer)]
    if mine:
        draft.waits = [entry for entry in draft.waits if not belongs(entry, timer)]
        draft.touched.add("profile")
    return {entry["node"]: entry for entry in mine}


def belongs(entry: Doc, timer: Doc) -> bool:
    """Say whether a profile's entry is of the run of a timer."""
    return bool(entry["event"] == timer["event"] and entry["workflow"] == timer["workflow"])


def before_of(timer: Doc, leaving: Iterable[Left]) -> Before:
    """Return what a run did until it waited, and which of its nodes are left now."""
    left = list(leaving)
    names = {name for name, _, _ in left}
    return Before(
        number=timer["number"] + 1,
        done=[(name, port, unpacked(result)) for name, port, result in timer["done"]],
        leaving=[(name, port, unpacked(result)) for name, port, result in left],
        held={name: held for name, held in timer["held"].items() if name not in names},
        vars=timer["vars"],
    )


def packed(value: Any) -> Any:
    """Return a node's result as JSON; a time in it stays one."""
    if isinstance(value, datetime):
        return {TIME: value.isoformat()}
    if isinstance(value, dict):
        return {name: packed(item) for name, item in value.items()}
    return [packed(item) for item in value] if isinstance(value, list) else shown(value)


def unpacked(value: Any) -> Any:
    """Return what `packed` took."""
    if isinstance(value, dict):
        if value.keys() == {TIME} and isinstance(value[TIME], str):
            return from_iso(value[TIME])
        return {name: unpacked(item) for name, item in value.items()}
    return [unpacked(item) for item in value] if isinstance(value, list) else value
