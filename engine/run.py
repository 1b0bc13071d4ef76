"""Walks one compiled workflow for one event, wave by wave."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from time import perf_counter
from typing import Any

import msgspec

from headrace.engine.edit import Edit
from headrace.engine.errors import HeadraceError, NodeError, StoreError
from headrace.engine.journal import FAILED, NOTHING, Asked, NodeRun, apply_journal
from headrace.engine.passage import Passage
from headrace.engine.plugin import ERROR_PORT, Out, Step
from headrace.engine.view import SCALARS, plain
from headrace.engine.workflow import Joins, Node, Way, Workflow

WIDE_WAVE = 8
"""A wave of more nodes than this looks at the clock after each of them, so that the loop is given back in time."""

FILE_ORDER = attrgetter("index")


class Run(msgspec.Struct, eq=False):
    """One event on its way through one workflow.

    An edge is waiting, taken or dead. `waiting` counts the waiting edges into each node; `taken` and `dead` are the
    bits of the nodes with several edges of which one is such. `held` names the nodes that wait for a time. Of
    the passage it keeps what a trace shows, not the passage itself: two that hold each other wait for the garbage
    collector.
    """

    workflow: Workflow
    edits: list[Edit]
    now: datetime
    times: dict[str, tuple[float, float]]
    waiting: list[int]
    dead: int
    started: float
    taken: int = 0
    done: list[NodeRun] = []
    held: list[str] = []
    error: str = ""
    failed: bool = False
    stopped: bool = False
    ms: float = 0.0


async def run_workflow(workflow: Workflow, passage: Passage) -> Run:
    """Run an event through a workflow and return what happened; a failed node does not raise.

    Raises Needs when a node attaches a profile or session that the request has not locked, StoreError when one
    looks something up and the store cannot answer now.
    """
    run = begin_run(workflow, passage)
    budget, results, has_io = passage.budget, passage.scope.nodes, workflow.has_io
    wave: Sequence[Node] = workflow.starts
    while wave:
        width = len(wave)
        budget.left -= width
        if budget.left < 0:
            run.error = "stopped: the event has used all of its node runs"
            run.stopped = True
            break
        if has_io or width > WIDE_WAVE:
            ran = await execute_wave(passage, wave)
        else:
            ran = execute(passage, wave)
        ready: tuple[Node, ...] = ()
        for done in ran:
            if done.error:
                heed(run, done, FAILED)
            elif done.journal and (asked := apply_journal(passage, workflow, done)) is not NOTHING:
                heed(run, done, asked)
            results[done.node.name] = done.out.result
            way = done.way
            ready += way.ready
            if way.joins:
                ready += settle_joins(run, way.joins)
        run.done.extend(ran)
        # File order, not arrival order, here and in a wave that has run: two runs of one event give one trace.
        wave = ready if width == 1 and not way.joins else sorted(ready, key=FILE_ORDER)
        if run.stopped:
            break
        if perf_counter() > budget.turn_ends:
            await budget.breathe()
    run.ms = (perf_counter() - run.started) * 1000
    return run


def begin_run(workflow: Workflow, passage: Passage) -> Run:
    """Return a run in which nothing has happened; the passage is given to it."""
    passage.times = {}
    run = Run(
        workflow,
        passage.edits,
        passage.now,
        passage.times,
        workflow.waiting.copy(),
        workflow.dead,
        perf_counter(),
    )
    passage.begin_run(run)
    return run


async def execute_wave(passage: Passage, wave: Sequence[Node]) -> list[NodeRun]:
    """Execute the nodes of a wave, those that do I/O at the same time; returns what they did, in order."""
    with_io = [node for node in wave if node.is_async]
    without: dict[int, NodeRun] = {}
    for node in wave:
        if not node.is_async:
            (without[node.index],) = execute(passage, (node,))
            if perf_counter() > passage.budget.turn_ends:
                await passage.budget.breathe()
    found = await asyncio.gather(*(execute_io(passage, node) for node in with_io))
    waited = {done.node.index: done for done in found}
    return [without.get(node.index) or waited[node.index] for node in wave]


def execute(passage: Passage, wave: Sequence[Node]) -> list[NodeRun]:
    """Execute nodes that do no I/O, one after another."""
    ran: list[NodeRun] = []
    for node in wave:
        step = Step(passage, node.name)
        try:
            run = node.run
            out: Any = run(step)
            way = node.ways.get(out.port) if type(out) is Out else None
            # Most nodes have no result, and need no other look.
            if way is not None and out.result is None:
                ran.append(NodeRun(node, way, out, step.journal))
            else:
                ran.append(checked(node, step, out))
        except Exception as error:  # noqa: BLE001 - a plugin may fail in any way; the edge where that ends is here
            ran.append(failed(node, step, error))
    return ran


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
    if type(out) is not Out or out.port not in node.ways:
        ports = ", ".join(sorted(node.ports))
        raise NodeError(
            f"plugin '{node.plugin_name}' gave {out!r}, which is no Out by one of its ports: {ports}"
        )
    if type(out.result) not in SCALARS:
        out = Out(out.port, plain(out.result))
    return NodeRun(node, node.ways[out.port], out, step.journal)


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
        run.held.append(done.node.name)
        done.way = Way(done.way.label, (), ())


def settle_joins(run: Run, joins: Joins) -> tuple[Node, ...]:
    """Settle one edge into each of some nodes that have several; returns those that may run now."""
    ready: tuple[Node, ...] = ()
    for to, is_taken in joins:
        if is_taken:
            run.taken |= to.bit
        else:
            run.dead |= to.bit
        run.waiting[to.index] -= 1
        if run.waiting[to.index]:
            continue
        runs = run.taken & to.bit and not (to.join_all and run.dead & to.bit)
        ready += (to,) if runs else settle_joins(run, to.skipped.joins)
    return ready
