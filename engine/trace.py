"""What a run leaves behind: a short record, and a trace."""

from collections.abc import Callable, Collection
from time import perf_counter
from typing import Any

import msgspec

from headrace.engine.journal import NodeRun
from headrace.engine.model import Doc, iso, make_key
from headrace.engine.plugin import Step
from headrace.engine.run import Run
from headrace.engine.view import shown
from headrace.engine.workflow import Node, Workflow, with_runs
from headrace.engine.writing import path

MOST_BYTES = 300
"""Most bytes of a run's record as JSON; a longer path is cut."""
SURELY_FITS = 220
"""Characters of path and name that fit when JSON writes each as it is."""
LEAST_ERROR = 80
"""Bytes of an error that are kept before the path is cut."""

_encode = msgspec.json.Encoder().encode

WHY_NOT = {
    "source": "the workflow does not take events of this source",
    "when": "condition false",
    "consent": "a consent is missing",
    "disabled": "disabled",
    "stopped": "an earlier workflow stopped the event",
}
"""Why a workflow whose `on.event` matched did not run."""


def run_record(run: Run) -> Doc:
    """Return a run as it is kept in its event, in at most 300 bytes; what was cut ends in `…`."""
    steps = run.place.path
    record: Doc = {
        "workflow": run.workflow.name,
        "version": run.workflow.version,
        "path": steps,
        "ms": round(run.ms, 3),
    }
    if run.error:
        record["error"] = run.error
    if run.by:
        record["started_by"] = run.by
        _shorten(record)
    if run.error or not run.workflow.has_plain_labels or len(steps) + len(run.workflow.name) > SURELY_FITS:
        _shorten(record)
    return record


def _shorten(record: Doc) -> None:
    """Cut the error, then the path of a record that is too long."""
    for name, least in (("error", LEAST_ERROR), ("path", 0)):
        over = len(_encode(record)) - MOST_BYTES
        if over > 0 and name in record:
            text = record[name]
            record[name] = _cut(text, max(len(_encode(text)) - 2 - over, least))


def _cut(text: str, most: int) -> str:
    """Return as much of a text as fits into some bytes of JSON, with a sign that it was cut."""
    if len(_encode(text)) - 2 <= most:
        return text
    size = len("…".encode())
    for place, sign in enumerate(text):
        size += len(_encode(sign)) - 2
        if size > most:
            return text[:place] + "…"
    return text


def skipped_record(workflow: Workflow, why: str) -> Doc:
    """Return the record of a workflow that did not run."""
    return {"workflow": workflow.name, "version": workflow.version, "skipped": why}


def traced(workflow: Workflow) -> Workflow:
    """Return the workflow with every plugin wrapped by a recorder of times; the plugins know nothing of it."""
    if workflow.traced is not None:
        return workflow.traced
    wrapped = workflow.traced = with_runs(workflow, _recorded)
    return wrapped


def _recorded(node: Node) -> Callable[[Step], Any]:
    return _record_async(node.run) if node.is_async else _record(node.run)


def _record(run: Callable[[Step], Any]) -> Callable[[Step], Any]:
    def recorded(step: Step) -> Any:
        started = perf_counter()
        try:
            return run(step)
        finally:
            step.clock(started, perf_counter())

    return recorded


def _record_async(run: Callable[[Step], Any]) -> Callable[[Step], Any]:
    async def recorded(step: Step) -> Any:
        started = perf_counter()
        try:
            return await run(step)
        finally:
            step.clock(started, perf_counter())

    return recorded


def full_trace(run: Run, event_id: str) -> Doc:
    """Return the full record of a run, node by node; times are there if the workflow was `traced`."""
    nodes = {done.node.name: _node_record(run, done) for done in run.done}
    waiting = _after_waits(run, nodes)
    for node in run.workflow.nodes:
        if node.name not in nodes:
            nodes[node.name] = {"plugin": node.plugin_name, "skipped": _why_not(run, node, waiting)}
    trace: Doc = {
        "workflow": run.workflow.name,
        "version": run.workflow.version,
        "event": event_id,
        "started": iso(run.now),
        "ms": round(run.ms, 3),
        "path": [done.node.name for done in run.done],
        "nodes": nodes,
    }
    if run.before is not None:
        _add_left(trace, run)
    if run.by:
        trace["started_by"] = run.by
    if run.error:
        trace["error"] = run.error
    return trace


def _add_left(trace: Doc, run: Run) -> None:
    """Add to a trace of a run that waited the nodes that were left before, and those that were left then."""
    assert run.before is not None  # noqa: S101 - who calls has looked
    for name, port, _ in run.before.done:
        trace["nodes"][name] |= {"skipped": f"left by {port} before the run waited"}
    for name, port, result in run.before.leaving:
        del trace["nodes"][name]["skipped"]
        trace["nodes"][name] |= {"port": port, "result": shown(result)}
    trace["path"] = [name for name, _, _ in run.before.leaving] + trace["path"]


def trace_key(event_key: str, workflow: str, number: int = 0) -> str:
    """Return the id of the trace of an event's run through a workflow; `number`: after so many waits."""
    return make_key("trace", event_key, workflow, *([str(number)] if number else []))


def _node_record(run: Run, done: NodeRun) -> Doc:
    record: Doc = {"plugin": done.node.plugin_name, "port": done.out.port, "result": shown(done.out.result)}
    times = run.times.get(done.node.name)
    if times is not None:
        record["started"] = round((times[0] - run.started) * 1000, 3)
        record["ms"] = round((times[1] - times[0]) * 1000, 3)
    changes = [_change(edit) for edit in run.edits[slice(*done.edits)]]
    if changes:
        record["changes"] = changes
    # An inline call was made even if its node failed; a deferred one is dropped with the journal.
    ops = ("call",) if done.error else ("call", "effect")
    calls = [shown(value) for op, _, value in done.journal if op in ops]
    if calls:
        record["calls"] = calls
    if done.error:
        record["error"] = done.error
        dropped = [_entry(entry) for entry in done.journal if entry[0] != "call"]
        if dropped:
            record["dropped"] = dropped
    if done.node.name in run.held:
        record["waits"] = iso(run.held[done.node.name].until)
    return record


def _change(edit: path.Edit) -> Doc:
    change: Doc = {"path": edit.path}
    if edit.before is not path.MISSING:
        change["before"] = shown(edit.before)
    if edit.after is not path.MISSING:
        change["after"] = shown(edit.after)
    return change


def _entry(entry: tuple[str, Any, Any]) -> Doc:
    op, where, value = entry
    return {"op": op, "where": str(getattr(where, "source", where)), "value": shown(value)}


def _after_waits(run: Run, ran: Collection[str]) -> set[str]:
    """Return the nodes that may run yet: those that wait, and what can be reached from them."""
    held = run.held.keys() if run.before is None else run.held.keys() | run.before.held.keys()
    if not held:
        return set()
    left = set() if run.before is None else {name for name, _, _ in (*run.before.done, *run.before.leaving)}
    found, todo = set(held), [node for node in run.workflow.nodes if node.name in held]
    while todo:
        for _, node in todo.pop().targets:
            never = node.is_dead or (node.join_all and node.bit & run.place.dead)
            if not never and node.name not in found and node.name not in ran and node.name not in left:
                found.add(node.name)
                todo.append(node)
    return found


def _why_not(run: Run, node: Node, waiting: set[str]) -> str:
    if node.disabled:
        return "disabled"
    if run.stopped:
        return "the run was stopped"
    if node.name in waiting:
        return "waits"
    if node.join_all and node.bit & run.place.dead & run.place.taken:
        return "not every branch into it was taken"
    return "branch not taken"
