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
from headrace.engine.journal import NOTHING, apply_journal
from headrace.engine.passage import Passage
from headrace.engine.plugin import ERROR_PORT, Entry, Out, Step
from headrace.engine.view import SCALARS, plain
from headrace.engine.workflow import NOWHERE, Joins, Node, Way, Workflow

WIDE_WAVE = 8
"""A wave of more nodes than this looks at the clock after each of them, so that the loop is given back in time."""


FILE_ORDER = attrgetter("index")


class NodeRun(msgspec.Struct, gc=False):
    """What one node did: its way out, what it gave, its journal, and the error if it failed."""

    node: Node
    way: Way
    out: Out
    journal: list[Entry]
    error: str = ""


class Run(msgspec.Struct, eq=False):
    """One event on its way through one workflow.

    An edge is waiting, taken or dead. `waiting` counts the waiting edges into each node; `taken` and `dead` are the
    bits of the nodes with several edges of which one is such. `edits_done` says how many `edits` there were before
    the run and after each node that has a journal. `held` names the nodes that wait for a time.
    Of the passage it keeps what a trace shows, not the passage itself: two that
    hold each other wait for the garbage collector.
    """

    workflow: Workflow
    edits: list[Edit]
    now: datetime
    waiting: list[int]
    times: dict[str, tuple[float, float]]
    started: float
    edits_done: list[int]
    taken: int = 0
    dead: int = 0
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
    passage.times = {}
    run = Run(
        workflow,
        passage.edits,
        passage.now,
        workflow.edges_in.copy(),
        passage.times,
        perf_counter(),
        [len(passage.edits)],
    )
    passage.begin_run(run)
    wave = starting_nodes(run)
    budget = passage.budget
    while wave:
        width = len(wave)
        budget.left -= width
        if budget.left < 0:
            run.error = "stopped: the event has used all of its node runs"
            run.stopped = True
            break
        if width > WIDE_WAVE or workflow.has_io:
            wave = settle_all(passage, run, await execute_wave(passage, wave))
        elif width == 1:
            wave = settle(passage, run, execute(passage, wave[0]))
        else:
            wave = settle_all(passage, run, [execute(passage, node) for node in wave])
        if run.stopped:
            break
        if perf_counter() > budget.turn_ends:
            await budget.breathe()
    run.ms = (perf_counter() - run.started) * 1000
    return run


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
        out: Any = node.run(step)
        way = node.ways.get(out.port) if type(out) is Out else None
        # Most nodes have no result, and need no other look.
        if way is None or out.result is not None:
            return checked(node, step, out)
    except Exception as error:  # noqa: BLE001 - a plugin may fail in any way; the edge where that ends is here
        return failed(node, step, error)
    return NodeRun(node, way, out, step.journal)


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


def settle_all(passage: Passage, run: Run, ran: list[NodeRun]) -> Sequence[Node]:
    """Settle the nodes of a wave, in file order; returns the next wave, in that order too.

    File order, not arrival order: two runs of one event give one trace.
    """
    ready: tuple[Node, ...] = ()
    for done in ran:
        ready += settle(passage, run, done)
    return sorted(ready, key=FILE_ORDER) if len(ready) > 1 else ready


def settle(passage: Passage, run: Run, done: NodeRun) -> tuple[Node, ...]:
    """Apply a node's journal, keep its result and follow its edges; returns the nodes that may run now."""
    node, way = done.node, done.way
    if done.journal:
        way = keep(passage, run, done)
    if done.error:
        run.failed = True
        if not node.then.get(ERROR_PORT):
            run.error = run.error or f"{node.name}: {done.error}"
    run.done.append(done)
    passage.scope.nodes[node.name] = done.out.result
    if not way.joins:
        return way.ready
    return tuple(sorted(way.ready + settle_joins(run, way.joins), key=FILE_ORDER))


def keep(passage: Passage, run: Run, done: NodeRun) -> Way:
    """Apply a node's journal, or fail the node; returns the way on."""
    asked = NOTHING
    if not done.error:
        try:
            asked = apply_journal(passage, run.workflow, done.node.name, done.out.port, done.journal)
        except NodeError as error:
            done.error = str(error)
            done.out = Out(ERROR_PORT, {"error": done.error})
            done.way = done.node.ways[ERROR_PORT]
    run.edits_done.append(len(passage.edits))
    if asked.stops:
        run.stopped = True
    if asked.waits:
        run.held.append(done.node.name)
        return NOWHERE
    return done.way


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
        ready += (to,) if runs and not to.disabled else settle_joins(run, to.skipped.joins)
    return ready


def starting_nodes(run: Run) -> Sequence[Node]:
    """Return the nodes that no edge leads to; edges out of disabled ones are dead."""
    for node in run.workflow.starts:
        if node.disabled:
            settle_joins(run, node.skipped.joins)
    return run.workflow.enabled_starts
