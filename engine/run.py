"""Walks one compiled workflow for one event, wave by wave."""

import asyncio
from time import perf_counter
from typing import Any

import msgspec

from headrace.engine.errors import HeadraceError, NodeError, StoreError
from headrace.engine.journal import NOTHING, apply_journal
from headrace.engine.passage import Passage
from headrace.engine.plugin import ERROR_PORT, Entry, Out, Step
from headrace.engine.view import SCALARS, plain
from headrace.engine.workflow import Node, Workflow

WIDE_WAVE = 8
"""A wave of more nodes than this looks at the clock after each of them, so that the loop is given back in time."""


class NodeRun(msgspec.Struct, gc=False):
    """What one node did: its way out, its journal, the error if it failed, and its share of the passage's edits."""

    node: Node
    out: Out
    journal: list[Entry]
    error: str = ""
    edits_from: int = 0
    edits_to: int = 0


class Run:
    """One event on its way through one workflow.

    An edge is waiting, taken or dead. `waiting` counts the waiting edges into each node; `taken` and `dead` hold
    the nodes with several edges of which one is such. `held` names the nodes that wait for a time. Of the passage it
    keeps what a trace shows, not the passage itself: two that hold each other wait for the garbage collector.
    """

    __slots__ = (
        "dead", "done", "edits", "error", "failed", "held", "ms", "now", "started", "stopped", "taken", "times",
        "waiting", "workflow",
    )  # fmt: skip

    def __init__(self, workflow: Workflow, passage: Passage) -> None:
        self.workflow = workflow
        self.edits = passage.edits
        self.now = passage.now
        self.waiting = workflow.edges_in.copy()
        self.taken: set[int] = set()
        self.dead: set[int] = set()
        self.done: list[NodeRun] = []
        self.held: list[str] = []
        self.error = ""
        self.failed = False
        self.stopped = False
        self.times = passage.times = {}
        self.ms = 0.0
        self.started = perf_counter()


async def run_workflow(workflow: Workflow, passage: Passage) -> Run:
    """Run an event through a workflow and return what happened; a failed node does not raise.

    Raises Needs when a node attaches a profile or session that the request has not locked, StoreError when one
    looks something up and the store cannot answer now.
    """
    run = Run(workflow, passage)
    passage.begin_run(run)
    wave = starting_nodes(run)
    budget = passage.budget
    while wave:
        budget.left -= len(wave)
        if budget.left < 0:
            run.error = "stopped: the event has used all of its node runs"
            run.stopped = True
            break
        ready: list[Node] = []
        if workflow.has_io or len(wave) > WIDE_WAVE:
            for done in await execute_wave(passage, wave):
                settle(passage, run, done, ready)
        elif len(wave) == 1:
            settle(passage, run, execute(passage, wave[0]), ready)
        else:
            for done in [execute(passage, node) for node in wave]:
                settle(passage, run, done, ready)
        if len(ready) > 1:
            # File order, not arrival order: two runs of one event give one trace.
            ready.sort(key=file_order)
        wave = [] if run.stopped else ready
        if perf_counter() > budget.turn_ends:
            await budget.breathe()
    run.ms = (perf_counter() - run.started) * 1000
    return run


async def execute_wave(passage: Passage, wave: list[Node]) -> list[NodeRun]:
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
        return checked(node, step, node.run(step))
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
    """Return what a plugin did, or its failure when it gave no way out of its node.

    The result is copied: what it was taken from may change later in the run.
    """
    if type(out) is Out and out.port in node.ports:
        if type(out.result) not in SCALARS:
            out = Out(out.port, plain(out.result))
        return NodeRun(node, out, step.journal)
    ports = ", ".join(sorted(node.ports))
    text = f"plugin '{node.plugin_name}' gave {out!r}, which is no Out by one of its ports: {ports}"
    return failed(node, step, NodeError(text))


def failed(node: Node, step: Step, error: Exception) -> NodeRun:
    """Return what a node did that failed."""
    text = str(error) if isinstance(error, HeadraceError) else f"{type(error).__name__}: {error}"
    # A plugin's text may hold half a character, which cannot be kept.
    text = text.encode(errors="replace").decode() or "the plugin failed without a word"
    return NodeRun(node, Out(ERROR_PORT, {"error": text}), step.journal, error=text)


def settle(passage: Passage, run: Run, done: NodeRun, ready: list[Node]) -> None:
    """Apply a node's journal, keep its result and follow its edges; adds the nodes that may run now to `ready`.

    The nodes of a wave are settled in file order, when all of them have run.
    """
    node = done.node
    waits = False
    if done.journal and not done.error:
        waits = keep(passage, run, done)
    if done.error:
        run.failed = True
        if not node.then.get(ERROR_PORT):
            run.error = run.error or f"{node.name}: {done.error}"
    run.done.append(done)
    out = done.out
    passage.scope.nodes[node.name] = out.result
    if node.targets and not waits:
        follow_edges(run, node, out.port, ready)


def keep(passage: Passage, run: Run, done: NodeRun) -> bool:
    """Apply a node's journal, or fail the node; says whether its edges wait for a time."""
    edits = passage.edits
    done.edits_from = len(edits)
    node = done.node
    try:
        asked = apply_journal(passage, run.workflow, node.name, done.out.port, done.journal)
    except NodeError as error:
        done.error = str(error)
        done.out = Out(ERROR_PORT, {"error": done.error})
        return False
    done.edits_to = len(edits)
    if asked is NOTHING:
        return False
    if asked.stops:
        run.stopped = True
    if asked.waits:
        run.held.append(node.name)
    return asked.waits


def file_order(node: Node) -> int:
    """Return the place of a node in its file."""
    return node.index


def follow_edges(run: Run, node: Node, port: str | None, ready: list[Node]) -> None:
    """Settle the edges out of a node; `port` None says that it did not run. Adds the nodes that may run now."""
    for by, to in node.targets:
        if to.edges_in == 1:
            runs = by == port
        else:
            (run.taken if by == port else run.dead).add(to.index)
            run.waiting[to.index] -= 1
            if run.waiting[to.index]:
                continue
            runs = to.index in run.taken and not (to.join_all and to.index in run.dead)
        if runs and not to.disabled:
            ready.append(to)
        elif to.targets:
            follow_edges(run, to, None, ready)


def starting_nodes(run: Run) -> list[Node]:
    """Return the nodes that no edge leads to; edges out of disabled ones are dead."""
    ready: list[Node] = []
    for node in run.workflow.starts:
        if not node.disabled:
            ready.append(node)
        else:
            follow_edges(run, node, None, ready)
    if len(ready) > 1:
        ready.sort(key=file_order)
    return ready
