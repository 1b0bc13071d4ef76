"""Walks one compiled workflow for one event, wave by wave."""

import asyncio
from time import perf_counter
from typing import NamedTuple

from headrace.engine.errors import HeadraceError, NodeError
from headrace.engine.journal import NOTHING, Applied, Writer
from headrace.engine.passage import Passage
from headrace.engine.plugin import ERROR_PORT, Entry, Out, Step
from headrace.engine.workflow import Node, Workflow


class NodeRun(NamedTuple):
    """What one node did: its way out, the error if it failed, and its share of the passage's edits."""

    node: Node
    out: Out
    error: str
    journal: list[Entry]
    edits_from: int
    edits_to: int


class Run:
    """One event on its way through one workflow.

    An edge is waiting, taken or dead. `waiting` counts the waiting edges into each node; `taken` and `dead` hold
    the nodes that have such an edge.
    """

    __slots__ = (
        "dead", "done", "error", "failed", "held", "ms", "passage", "started", "stopped", "taken", "times", "waiting", "workflow",
    )  # fmt: skip

    def __init__(self, workflow: Workflow, passage: Passage) -> None:
        self.workflow = workflow
        self.passage = passage
        self.waiting = workflow.edges_in.copy()
        self.taken: set[int] = set()
        self.dead: set[int] = set()
        self.done: list[NodeRun] = []
        self.held: list[str] = []
        self.error = ""
        self.failed = False
        self.stopped = False
        self.started = perf_counter()
        self.times = passage.times = {}
        self.ms = 0.0


async def run_workflow(workflow: Workflow, passage: Passage) -> Run:
    """Run an event through a workflow and return what happened; a failed node does not raise.

    Raises Needs when a node attaches a profile or session that the request has not locked.
    """
    run = Run(workflow, passage)
    passage.runs.append(run)
    passage.scope.set("vars", {})
    passage.scope.set("nodes", {})
    ready = enabled_nodes(run, list(workflow.starts))
    while ready and not run.stopped:
        if not passage.budget.take(len(ready)):
            run.error = "stopped: the event has used all of its node runs"
            break
        ready = await run_wave(run, ready)
    run.ms = (perf_counter() - run.started) * 1000
    return run


async def run_wave(run: Run, ready: list[int]) -> list[int]:
    """Run nodes that are ready, apply their journals in file order, and return the nodes that follow."""
    nodes = run.workflow.nodes
    steps = [Step(run.passage, nodes[index].name) for index in ready]
    outs = await execute_all(run, [nodes[index] for index in ready], steps)
    results = run.passage.scope.nodes
    following: list[int] = []
    for index, step, (out, error) in zip(ready, steps, outs, strict=True):
        node = nodes[index]
        done, asked = finish(run, node, step, out, error)
        results[node.name] = done.out.result
        if asked.stops:
            run.stopped = True
        if asked.waits:
            run.held.append(node.name)
        else:
            follow_edges(run, node, done.out.port, following)
    if len(following) > 1:
        # File order, not arrival order: two runs of one event give one trace.
        following.sort()
    return following


async def execute_all(run: Run, nodes: list[Node], steps: list[Step]) -> list[tuple[Out, str]]:
    """Execute the nodes of a wave; those that do I/O at the same time. Returns ways out and errors, in order."""
    outs: list[tuple[Out, str] | None] = [None] * len(nodes)
    waiting: list[int] = []
    for place, node in enumerate(nodes):
        if node.is_async:
            waiting.append(place)
        else:
            outs[place] = execute(node, steps[place])
            await run.passage.breathe()
    if len(waiting) == 1:
        outs[waiting[0]] = await execute_io(nodes[waiting[0]], steps[waiting[0]])
    elif waiting:
        found = await asyncio.gather(*(execute_io(nodes[place], steps[place]) for place in waiting))
        for place, out in zip(waiting, found, strict=True):
            outs[place] = out
    return [out for out in outs if out is not None]


def execute(node: Node, step: Step) -> tuple[Out, str]:
    """Execute a node that does no I/O."""
    try:
        return checked(node, node.run(step))
    except Exception as error:  # noqa: BLE001 - a plugin may fail in any way; the edge where that ends is here
        return failed(error)


async def execute_io(node: Node, step: Step) -> tuple[Out, str]:
    """Execute a node that does I/O, within its timeout, as often as its `retry` says."""
    left = node.retry.times if node.retry else 0
    while True:
        try:
            async with asyncio.timeout(node.timeout_seconds):
                return checked(node, await node.run(step))  # type: ignore[misc]
        except TimeoutError:
            out = failed(NodeError(f"timed out after {node.timeout_seconds:g} s"))
        except Exception as error:  # noqa: BLE001 - as in `execute`
            out = failed(error)
        step.journal.clear()
        if left == 0 or node.retry is None:
            return out
        left -= 1
        await asyncio.sleep(node.retry.wait_seconds)


def checked(node: Node, out: object) -> tuple[Out, str]:
    """Return a plugin's way out, or a failure when it is none of the node's."""
    if type(out) is Out and out.port in node.ports:
        return out, ""
    ports = ", ".join(sorted(node.ports))
    return failed(
        NodeError(f"plugin '{node.plugin_name}' gave {out!r}, which is no Out by one of its ports: {ports}")
    )


def failed(error: Exception) -> tuple[Out, str]:
    """Return the way out of a node that failed."""
    text = str(error) if isinstance(error, HeadraceError) else f"{type(error).__name__}: {error}"
    return Out(ERROR_PORT, {"error": text}), text


def finish(run: Run, node: Node, step: Step, out: Out, error: str) -> tuple[NodeRun, Applied]:
    """Apply a node's journal, unless it failed, and note what it did."""
    passage = run.passage
    asked = NOTHING
    start = len(passage.edits)
    if step.journal and not error:
        workflow = run.workflow
        try:
            asked = Writer(passage, (workflow.name, workflow.version), node.name, out.port).apply(
                step.journal
            )
        except NodeError as problem:
            out, error = failed(problem)
    if error:
        run.failed = True
        if ERROR_PORT not in node.then:
            run.error = run.error or f"{node.name}: {error}"
    done = NodeRun(node, out, error, step.journal, start, len(passage.edits))
    run.done.append(done)
    return done, asked


def follow_edges(run: Run, node: Node, port: str | None, following: list[int]) -> None:
    """Settle the edges out of a node; `port` None says that it did not run. Adds the nodes that may run now."""
    for by, to in node.targets:
        run.waiting[to] -= 1
        (run.taken if by == port else run.dead).add(to)
        if run.waiting[to] == 0:
            settle(run, run.workflow.nodes[to], following)


def settle(run: Run, node: Node, following: list[int]) -> None:
    """Decide about a node whose edges are all settled: it runs, or its own edges are dead."""
    runs = node.index in run.taken and not (node.join_all and node.index in run.dead)
    if runs and not node.disabled:
        following.append(node.index)
    else:
        follow_edges(run, node, None, following)


def enabled_nodes(run: Run, starts: list[int]) -> list[int]:
    """Return the starting nodes that are not disabled; edges out of the others are dead."""
    ready: list[int] = []
    for index in starts:
        node = run.workflow.nodes[index]
        if node.disabled:
            follow_edges(run, node, None, ready)
        else:
            ready.append(index)
    ready.sort()
    return ready
