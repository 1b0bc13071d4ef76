"""Any shape of workflow comes to the same end whether its nodes wait or not."""

from datetime import timedelta
from typing import Any, NamedTuple

import msgspec
from hypothesis import event, given, settings
from hypothesis import strategies as st

from headrace.engine.errors import NodeError
from headrace.engine.model import Doc, from_iso
from headrace.engine.passage import Passage
from headrace.engine.plugin import Out, Step
from headrace.engine.run import Run, run_workflow
from headrace.engine.timers.waiting import before_of, held_of, timer_row
from headrace.engine.workflow import Workflow
from tests.makers import NOW, Does, DoesIo, make_passage, make_workflow

LATER = [NOW + timedelta(minutes=minutes) for minutes in (1, 2, 3)]


class Node(NamedTuple):
    """What a node does: how long it waits (0: not at all), the port it leaves by, and whether it does I/O."""

    waits: int
    way: str
    is_async: bool


class Shape(NamedTuple):
    """A workflow: nodes as in a file, and what each does."""

    nodes: dict[str, dict[str, Any]]
    does: dict[str, Node]


class Ended(NamedTuple):
    """What a run came to: the nodes by their ports, how often each ran, the profile's traits, results."""

    ports: Doc
    ran: list[str]
    traits: Doc
    results: Doc
    runs: int


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Draw a workflow without a circle, its nodes in any order."""
    size = draw(st.integers(1, 9))
    nodes: dict[str, dict[str, Any]] = {}
    does: dict[str, Node] = {}
    for place in draw(st.permutations(range(size))):
        later = [f"n{number}" for number in range(place + 1, size)]
        targets = st.lists(st.sampled_from(later), max_size=3) if later else st.just([])
        then = {port: draw(targets) for port in ("a", "b", "error")}
        nodes[f"n{place}"] = {
            "then": {port: after for port, after in then.items() if after},
            "join": draw(st.sampled_from(["any", "any", "all"])),
            "disabled": draw(st.integers(0, 7)) == 0,
        }
        way = draw(st.sampled_from(["a", "a", "a", "b", "c", "raises"]))
        does[f"n{place}"] = Node(draw(st.integers(0, 3)), way, draw(st.booleans()))
    return Shape(nodes, does)


def behaviour(name: str, node: Node, *, waits: bool) -> Does:
    """Return what a node does; whatever the order of two branches, the documents come to be the same."""

    def does(step: Step) -> Out:
        step.increment("profile.stats.counters.ran")
        step.set(f"profile.traits.{name}", 1)
        step.set(f"vars.{name}", 1)
        if waits and node.waits:
            step.wait(LATER[node.waits - 1])
        if node.way == "raises":
            raise NodeError("it raises")
        return Out(node.way, {"name": name, "at": NOW})

    return does


def compiled(shape: Shape, *, waits: bool) -> Workflow:
    plain: dict[str, Does] = {}
    io: dict[str, DoesIo] = {}
    for name, node in shape.does.items():
        does = behaviour(name, node, waits=waits)

        async def does_io(step: Step, does: Does = does) -> Out:
            return does(step)

        if node.is_async:
            io[name] = does_io
        else:
            plain[name] = does
    return make_workflow(shape.nodes, plain, io)


async def run_through(workflow: Workflow) -> Ended:
    """Run a workflow and go on as often as it waits, each time from what a timer keeps."""
    passage = make_passage()
    run = await run_workflow(workflow, passage)
    ran = [done.node.name for done in run.done]
    ports = ports_of(run)
    runs = 1
    while held := held_of(run):
        timer = msgspec.json.decode(msgspec.json.encode(timer_row(passage, run, held).doc))
        left = [
            (name, each["port"], each["result"]) for name, each in held.items() if each["due"] == timer["due"]
        ]
        before = before_of(timer, left)
        passage = gone_on(passage, timer)
        run = await run_workflow(workflow, passage, before)
        ran += [done.node.name for done in run.done]
        ports |= {name: port for name, port, _ in left} | ports_of(run)
        runs += 1
    profile = passage.draft.profile
    assert profile is not None
    assert profile["stats"]["counters"].get("ran", 0) == len(profile["traits"])
    return Ended(ports, ran, profile["traits"], dict(passage.scope.nodes), runs)


def gone_on(passage: Passage, timer: Doc) -> Passage:
    """Return a passage of the same event at the time of its timer, with the profile as it is then."""
    profile = passage.draft.profile
    assert profile is not None
    later = make_passage(profile)
    later.now = from_iso(timer["due"])
    return later


def ports_of(run: Run) -> Doc:
    return {done.node.name: done.out.port for done in run.done if done.node.name not in run.held}


@settings(max_examples=300, deadline=None)
@given(shape=shapes())
async def test_any_shape_comes_to_the_same_end_with_waits_and_without(shape: Shape) -> None:
    straight = await run_through(compiled(shape, waits=False))
    waited = await run_through(compiled(shape, waits=True))
    event(f"{min(waited.runs, 4)} runs")
    assert straight.runs == 1
    assert sorted(waited.ran) == sorted(straight.ran)
    assert len(set(waited.ran)) == len(waited.ran)
    assert waited.ports == straight.ports
    assert waited.traits == straight.traits
    # Times among the results are times again.
    assert waited.results == straight.results
