"""Walks one compiled workflow for one event, wave by wave."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from time import perf_counter
from typing import Any

import msgspec

from headrace.engine.errors import HeadraceError, NodeError, StoreError
from headrace.engine.held import Before, Wait
from headrace.engine.journal import FAILED, NOTHING, Asked, NodeRun, apply_journal
from headrace.engine.passage import Passage
from headrace.engine.plugin import ERROR_PORT, Out, Step
from headrace.engine.view import plain
from headrace.engine.workflow import Node, Place, Workflow
from headrace.engine.writing.edit import Edit


class Run(msgspec.Struct, eq=False):
    """One event on its way through one workflow.

    `place` says how far it is. `held` are the nodes that wait, `by` the workflow that started this one, if one did,
    `before` what it did before it waited, `vars` its values if it waits. Of the passage it keeps what a trace shows,
    not the passage itself: two that hold each other wait for the garbage collector.
    """

    workflow: Workflow
    place: Place
    edits: list[Edit]
    now: datetime
    times: dict[str, tuple[float, float]]
    started: float
    done: list[NodeRun] = []
    held: dict[str, Wait] = {}
    error: str = ""
    failed: bool = False
    stopped: bool = False
    ms: float = 0.0
    by: str = ""
    before: Before | None = None
    vars: dict[str, Any] | None = None


async def run_workflow(workflow: Workflow, passage: Passage, before: Before | None = None) -> Run:
    """Run an event through a workflow and return what happened; a failed node does not raise.

    With `before` a run that waited goes on.

    Raises VersionError when it cannot in this workflow, Needs when a node attaches a profile or session that the
    request has not locked, StoreError when one looks something up and the store cannot answer now.
    """
    run = Run(workflow, workflow.start, passage.edits, passage.now, {}, perf_counter())
    passage.begin_run(run)
    budget, place = passage.budget, workflow.start if before is None else go_on(run, passage, before)
    # A node runs once at most, so that most runs need not count.
    is_short = budget.left < len(workflow.nodes)
    while place.wave and not run.stopped:
        if is_short and place.runs > budget.left:
            run.error = "stopped: the event has used all of its node runs"
            run.stopped = True
            # None of what the event causes may run any more either.
            budget.left = -1
        elif place.is_slow or is_short:
            place = settle_wave(run, passage, place, await execute_wave(passage, place.wave))
        else:
            place = walk(run, passage, place)
        if place.looks and perf_counter() > budget.turn_ends:
            await budget.breathe()
    if run.held:
        run.vars = passage.scope.vars
    budget.left -= place.count
    run.place = place
    run.ms = (perf_counter() - run.started) * 1000
    return run


def go_on(run: Run, passage: Passage, before: Before) -> Place:
    """Give a run that waited what it had then; returns the place where it goes on."""
    run.before, run.vars = before, passage.scope.vars
    passage.scope.nodes |= before.results()
    passage.scope.vars |= before.vars
    return before.place(run.workflow)


def walk(run: Run, passage: Passage, place: Place) -> Place:
    """Go through waves that take no time, up to a place where there is something else to do; returns it."""
    workflow, results, ran = run.workflow, passage.scope.nodes, run.done
    while True:
        node = place.only
        if node is None:
            place = settle_wave(run, passage, place, [execute(passage, node) for node in place.wave])
        else:
            # Most waves are one node, and need no list.
            done = execute(passage, node)
            if done.error:
                heed(run, done, FAILED)
            elif done.journal and (asked := apply_journal(passage, workflow, done)) is not NOTHING:
                heed(run, done, asked)
            results[node.name] = done.out.result
            ran.append(done)
            way = done.way
            place = place.after.get(way) or place.follow(way)
        if place.is_pause or run.stopped:
            return place


def settle_wave(run: Run, passage: Passage, place: Place, ran: list[NodeRun]) -> Place:
    """Do what the nodes of a wave wanted, in file order, and return the place that follows."""
    results = passage.scope.nodes
    for done in ran:
        if done.error:
            heed(run, done, FAILED)
        elif done.journal and (asked := apply_journal(passage, run.workflow, done)) is not NOTHING:
            heed(run, done, asked)
        results[done.node.name] = done.out.result
    run.done += ran
    ways = ran[0].way if len(ran) == 1 else tuple([done.way for done in ran])
    return place.after.get(ways) or place.follow(ways)


async def execute_wave(passage: Passage, wave: Sequence[Node]) -> list[NodeRun]:
    """Execute the nodes of a wave, those that do I/O at the same time; returns what they did, in order."""
    with_io = [node for node in wave if node.is_async]
    without: dict[int, NodeRun] = {}
    for node in wave:
        if not node.is_async:
            without[node.index] = execute(passage, node)
            if perf_counter() > passage.budget.turn_ends:
                await passage.budget.breathe()
    found = await asyncio.gather(*(execute_io(passage, node) for node in with_io))
    waited = {done.node.index: done for done in found}
    return [without.get(node.index) or waited[node.index] for node in wave]


def execute(passage: Passage, node: Node) -> NodeRun:
    """Execute a node that does no I/O."""
    step = Step(passage, node.name)
    try:
        run = node.run
        out: Any = run(step)
        way = node.ways.get(out.port) if type(out) is Out else None
        # Most nodes have no result, and need no other look.
        if way is None or out.result is not None:
            return checked(node, step, out)
        return NodeRun(node, way, out, step.journal)
    except Exception as error:  # noqa: BLE001 - a plugin may fail in any way; the edge where that ends is here
        return failed(node, step, error)


async def execute_io(passage: Passage, node: Node) -> NodeRun:
    """Execute a node that does I/O, as often as its `retry` says, within its timeout and what the request has left."""
    times = node.retry.times if node.retry else 0
    for left in range(times, -1, -1):
        step = Step(passage, node.name)
        seconds = min(node.timeout_seconds, passage.around.ends - perf_counter())
        try:
            async with asyncio.timeout(seconds) as timeout:
                return checked(node, step, await node.run(step))  # type: ignore[misc]
        except StoreError:
            # Not the node's failure: the request is refused whole, and can be sent again.
            raise
        except Exception as error:  # noqa: BLE001 - as in `execute`
            text = f"timed out after {max(0, seconds):.3g} s"
            done = failed(node, step, NodeError(text) if timeout.expired() else error)
        except asyncio.CancelledError:
            if has_been_cancelled():
                raise
            done = failed(node, step, NodeError("the plugin cancelled itself"))
        if left and node.retry and passage.around.ends > perf_counter():
            await asyncio.sleep(node.retry.wait_seconds)
    return done


def has_been_cancelled() -> bool:
    """Say whether it is the request that was cancelled, and not a plugin that raised the error by itself."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def checked(node: Node, step: Step, out: Any) -> NodeRun:
    """Return what a plugin did. Raises NodeError when it gave no way out of its node.

    The result is copied: what it was taken from may change later in the run.
    """
    way = node.ways.get(out.port) if type(out) is Out else None
    if way is None:
        ports = ", ".join(sorted(node.ports))
        raise NodeError(
            f"plugin '{node.plugin_name}' gave {out!r}, which is no Out by one of its ports: {ports}"
        )
    if out.result is not None:
        out = Out(out.port, plain(out.result))
    return NodeRun(node, way, out, step.journal)


def failed(node: Node, step: Step, error: Exception) -> NodeRun:
    """Return what a node did that failed."""
    text = str(error) if isinstance(error, HeadraceError) else f"{type(error).__name__}: {error}"
    # A plugin's text may hold half a character, which cannot be kept.
    text = text.encode(errors="replace").decode() or "the plugin failed without a word"
    return NodeRun(node, node.ways[ERROR_PORT], Out(ERROR_PORT, {"error": text}), step.journal, text)


def heed(run: Run, done: NodeRun, asked: Asked) -> None:
    """Let a run know of a node that failed, or do what its journal asked of the run itself."""
    if done.error:
        run.failed = True
        if not done.node.then.get(ERROR_PORT):
            run.error = run.error or f"{done.node.name}: {done.error}"
    if asked.stops:
        run.stopped = True
    if asked.waits:
        run.held[done.node.name] = asked.waits
        done.way = done.node.held[done.out.port]
