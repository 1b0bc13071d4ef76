"""Any shape of workflow runs as the design says, told by a slow reference."""

import asyncio
import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from headrace.engine.errors import NodeError
from headrace.engine.model import Doc
from headrace.engine.passage import Passage
from headrace.engine.plugin import Out, Step
from headrace.engine.run import Run, run_workflow
from headrace.engine.trace import full_trace, traced
from tests.makers import Does, DoesIo, make_passage, make_workflow, path_of
from tests.reference_walker import walk

Entry = tuple[str, str, Any]


class Node(NamedTuple):
    """What a node does: it writes its entries, gives the loop back some times, and leaves or fails."""

    way: str
    entries: tuple[Entry, ...]
    turns: int | None


class Shape(NamedTuple):
    """A workflow: nodes as in a file, and what each does."""

    nodes: dict[str, dict[str, Any]]
    does: dict[str, Node]


FAILURES = ("raises", "crashes", "no way out", "no such port")
NAMES = ["x", "y"]
VALUES = [0, 1, -2, 2.5, "text", None, True, [1], {"x": 1}]

ENTRIES = st.one_of(
    st.tuples(st.just("set"), st.sampled_from(NAMES), st.sampled_from(VALUES)),
    st.tuples(st.just("unset"), st.sampled_from(NAMES), st.none()),
    st.tuples(st.just("increment"), st.sampled_from(NAMES), st.sampled_from([1, -2, 2.5])),
    st.tuples(st.just("append"), st.sampled_from(NAMES), st.sampled_from(VALUES)),
    st.tuples(st.just("add"), st.sampled_from(NAMES), st.sampled_from(VALUES)),
    st.tuples(st.just("remove"), st.sampled_from(NAMES), st.sampled_from(VALUES)),
)


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Draw a workflow without a circle, its nodes in any order."""
    size = draw(st.integers(1, 9))
    order = draw(st.permutations(range(size)))
    nodes: dict[str, dict[str, Any]] = {}
    does: dict[str, Node] = {}
    for place in order:
        later = [f"n{number}" for number in range(place + 1, size)]
        targets = st.lists(st.sampled_from(later), max_size=3) if later else st.just([])
        then = {port: draw(targets) for port in ("a", "b", "error")}
        nodes[f"n{place}"] = {
            "then": {port: after for port, after in then.items() if after},
            "join": draw(st.sampled_from(["any", "any", "all"])),
            "disabled": draw(st.integers(0, 7)) == 0,
        }
        way = draw(st.sampled_from(["a", "a", "a", "b", "c", "error", *FAILURES]))
        entries = tuple(draw(st.lists(ENTRIES, max_size=3)))
        does[f"n{place}"] = Node(way, entries, draw(st.none() | st.integers(0, 3)))
    return Shape(nodes, does)


def behaviour(node: Node) -> Does:
    def does(step: Step) -> Out:
        for op, name, value in node.entries:
            where = f"profile.traits.{name}"
            if op == "unset":
                step.remove(where)
            else:
                getattr(step, op)(where, copy.deepcopy(value))
        if node.way == "raises":
            raise NodeError("it raises")
        if node.way == "crashes":
            raise KeyError("it crashes")
        if node.way == "no way out":
            return None  # type: ignore[return-value]
        return Out(node.way)

    return does


def behaviour_io(node: Node) -> DoesIo:
    does = behaviour(node)

    async def waits(step: Step) -> Out:
        for _ in range(node.turns or 0):
            await asyncio.sleep(0)
        return does(step)

    return waits


async def run_shape(shape: Shape, tracing: bool = False) -> tuple[Run, Passage]:
    does = {name: behaviour(node) for name, node in shape.does.items() if node.turns is None}
    io = {name: behaviour_io(node) for name, node in shape.does.items() if node.turns is not None}
    workflow = make_workflow(shape.nodes, does, io)
    passage = make_passage({"traits": {"x": 1, "y": ["text"]}})
    return await run_workflow(traced(workflow) if tracing else workflow, passage), passage


class Told(NamedTuple):
    """What the reference says: the way out of each node, and the traits afterwards."""

    waves: list[list[str]]
    ways: dict[str, str]
    traits: Doc


def expected(shape: Shape) -> Told:
    """Return what a run must give; a node's way depends on what was written before, so it goes wave by wave."""
    traits: Doc = {"x": 1, "y": ["text"]}
    ways: dict[str, str] = {}
    done = 0
    # The reference walks again for each wave; the ways of nodes that did not run yet are not asked for before.
    while True:
        waves = walk(shape.nodes, Ways(ways))
        if len(waves) == done:
            return Told(waves, ways, traits)
        for name in waves[done]:
            node = shape.does[name]
            after = None if node.way in FAILURES else applied(traits, node.entries)
            ways[name] = "error" if after is None else node.way
            traits = traits if after is None else after
        done += 1


class Ways(dict[str, str]):
    """Ways out; a node that nobody asked about yet leaves by a port that leads nowhere."""

    def __missing__(self, name: str) -> str:
        return "?"


def applied(traits: Doc, entries: tuple[Entry, ...]) -> Doc | None:
    """Return the traits after a journal, or None when one of its entries cannot be applied."""
    after = copy.deepcopy(traits)
    for op, name, value in entries:
        if not OPERATIONS[op](after, name, copy.deepcopy(value)):
            return None
    return after


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def equal(one: Any, other: Any) -> bool:
    """Say whether two JSON values are the same; true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def set_(traits: Doc, name: str, value: Any) -> bool:
    traits[name] = value
    return True


def unset(traits: Doc, name: str, _: Any) -> bool:
    traits.pop(name, None)
    return True


def increment(traits: Doc, name: str, by: Any) -> bool:
    before = traits.get(name)
    if before is not None and not is_number(before):
        return False
    traits[name] = (before or 0) + by
    return True


def append(traits: Doc, name: str, value: Any) -> bool:
    before = traits.get(name)
    if before is not None and not isinstance(before, list):
        return False
    traits[name] = [*(before or []), value]
    return True


def add(traits: Doc, name: str, value: Any) -> bool:
    before = traits.get(name)
    if isinstance(before, list) and any(equal(item, value) for item in before):
        return True
    return append(traits, name, value)


def remove(traits: Doc, name: str, value: Any) -> bool:
    before = traits.get(name)
    if before is None:
        return True
    if not isinstance(before, list):
        return False
    traits[name] = [item for item in before if not equal(item, value)]
    return True


OPERATIONS: Mapping[str, Callable[[Doc, str, Any], bool]] = {
    "set": set_,
    "unset": unset,
    "increment": increment,
    "append": append,
    "add": add,
    "remove": remove,
}


@settings(max_examples=250, deadline=None)
@given(shape=shapes(), tracing=st.booleans())
async def test_any_shape_runs_as_the_reference_says(shape: Shape, tracing: bool) -> None:
    run, passage = await run_shape(shape, tracing)
    told = expected(shape)
    event(f"{min(len(told.waves), 4)} waves")
    # Each node at most once, wave by wave, in file order.
    assert path_of(run) == [name for wave in told.waves for name in wave]
    assert {done.node.name: done.out.port for done in run.done} == told.ways
    assert passage.draft.profile is not None
    assert_same(passage.draft.profile["traits"], told.traits)
    # A failed node leaves nothing, and the run names the first that nothing takes.
    unwired = [done for done in run.done if done.error and "error" not in shape.nodes[done.node.name]["then"]]
    assert run.failed == any(done.error for done in run.done)
    assert run.error == (f"{unwired[0].node.name}: {unwired[0].error}" if unwired else "")


def assert_same(found: Any, told: Any) -> None:
    assert repr_of(found) == repr_of(told)


def repr_of(value: Any) -> str:
    """Return a text that is the same for equal JSON values; true differs from 1, while 1.0 does not."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {repr_of(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(repr_of, value)) + "]"
    return repr(float(value)) if is_number(value) else repr(value)


@settings(max_examples=80, deadline=None)
@given(shape=shapes(), turns=st.data())
async def test_two_runs_give_one_trace(shape: Shape, turns: st.DataObject) -> None:
    first, passage = await run_shape(shape, tracing=True)
    # The same, with nodes that do I/O and finish in another order.
    other = {name: node._replace(turns=turns.draw(st.integers(0, 5))) for name, node in shape.does.items()}
    second, again = await run_shape(shape._replace(does=other), tracing=True)
    assert timeless(full_trace(first, "e1")) == timeless(full_trace(second, "e1"))
    assert passage.draft.profile == again.draft.profile


def timeless(trace: Doc) -> Doc:
    """Return a trace without what a clock measured."""
    clocked = ("started", "ms")
    nodes = {
        name: {key: value for key, value in node.items() if key not in clocked}
        for name, node in trace["nodes"].items()
    }
    return {key: value for key, value in trace.items() if key not in clocked} | {"nodes": nodes}


@settings(max_examples=80, deadline=None)
@given(shape=shapes())
async def test_edits_are_undone_exactly(shape: Shape) -> None:
    _, passage = await run_shape(shape)
    fresh = make_passage({"traits": {"x": 1, "y": ["text"]}})
    passage.undo()
    assert (
        repr(passage.draft.profile) == repr(fresh.draft.profile)
        or passage.draft.profile == fresh.draft.profile
    )
    assert passage.edits == []


@settings(max_examples=60, deadline=None)
@given(shape=shapes())
async def test_a_failed_node_changes_nothing(shape: Shape) -> None:
    """A run in which failed nodes write nothing at all ends with the same documents."""
    run, passage = await run_shape(shape)
    failed = {done.node.name for done in run.done if done.error}
    silent = {
        name: node._replace(entries=(), way="raises") if name in failed else node
        for name, node in shape.does.items()
    }
    other, again = await run_shape(shape._replace(does=silent))
    assert path_of(other) == path_of(run)
    assert passage.draft.profile == again.draft.profile


@pytest.mark.parametrize("times", [1, 2])
async def test_reference_knows_the_operations(times: int) -> None:
    entries: tuple[Entry, ...] = (("append", "y", 1), ("remove", "y", "text"), ("increment", "x", 1))
    traits: Doc | None = {"x": 1, "y": ["text"]}
    for _ in range(times):
        assert traits is not None
        traits = applied(traits, entries)
    assert traits == {"x": 1 + times, "y": [1] * times}
