"""Lint's view of a graph agrees with what its runs can do."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine.files.check_graph import check_graph, find_circle
from headrace.engine.files.json_file import JsonFile
from headrace.engine.workflow import NodeFile

FILE = JsonFile("w.json", b"{}", {})
Graph = dict[str, NodeFile]


def node(join: str = "any", disabled: bool = False, **then: list[str]) -> NodeFile:
    return NodeFile.model_validate({"plugin": "x", "join": join, "disabled": disabled, "then": then})


def found(graph: Graph) -> list[tuple[str, str]]:
    return [(problem.place, problem.code) for problem in check_graph(graph, FILE)]


@pytest.mark.parametrize(
    ("graph", "problems"),
    [
        ({"a": node()}, []),
        ({"a": node(), "b": node()}, []),
        ({"a": node(p=["b", "c"]), "b": node(p=["d"]), "c": node(p=["d"]), "d": node("all")}, []),
        ({"a": node(p=["b"], q=["b"]), "b": node("all")}, [("nodes.b.join", "W08")]),
        (
            {"a": node(p=["b"], q=["c"]), "b": node(p=["d"]), "c": node(p=["d"]), "d": node("all")},
            [("nodes.d.join", "W08")],
        ),
        ({"a": node(p=["b"], q=["c"]), "b": node(p=["d"]), "c": node(p=["d"]), "d": node()}, []),
        ({"a": node(p=["b"], disabled=True), "b": node()}, [("nodes.b", "W07")]),
        ({"a": node(p=["b"], disabled=True), "b": node(), "c": node(p=["b"])}, []),
        (
            {"a": node(p=["c"], disabled=True), "b": node(p=["c"]), "c": node("all")},
            [("nodes.c.join", "W08")],
        ),
        (
            {"a": node(p=["b"], q=["b"]), "b": node("all", p=["c"]), "c": node()},
            [("nodes.b.join", "W08"), ("nodes.c", "W07")],
        ),
        ({"a": node(p=["b"]), "b": node(p=["a"])}, [("nodes.a.then", "W06")]),
        ({"s": node(p=["a"]), "a": node(p=["b"]), "b": node(q=["a"])}, [("nodes.a.then", "W06")]),
    ],
)
def test_table(graph: Graph, problems: list[tuple[str, str]]) -> None:
    assert found(graph) == problems


def test_a_circle_is_named_in_order() -> None:
    graph = {"s": ["a"], "a": ["b"], "b": ["c"], "c": ["a"]}
    assert find_circle(graph) == ["a", "b", "c", "a"]


def test_a_long_chain_needs_no_deep_stack() -> None:
    graph = {f"n{number}": [f"n{number + 1}"] for number in range(5000)} | {"n5000": list[str]()}
    assert find_circle(graph) == []


def test_many_ways_through_a_graph_take_no_time() -> None:
    graph = {f"n{number}": node(p=[f"n{later}" for later in range(number + 1, 200)]) for number in range(200)}
    assert found(graph) == []


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    names = [f"n{number}" for number in range(draw(st.integers(1, 6)))]
    graph = {}
    for index, name in enumerate(names):
        targets = (
            st.lists(st.sampled_from(names[index + 1 :]), max_size=2) if names[index + 1 :] else st.just([])
        )
        then = {port: draw(targets) for port in ("p", "q")}
        graph[name] = node(draw(st.sampled_from(["any", "all"])), draw(st.integers(0, 5)) == 0, **then)
    return graph


@settings(max_examples=300, deadline=None)
@given(graph=graphs())
def test_what_is_said_never_to_run_never_runs(graph: Graph) -> None:
    never = {place.split(".")[1] for place, _ in found(graph)}
    for way in ways(graph):
        assert not never & way


@settings(max_examples=300, deadline=None)
@given(graph=graphs())
def test_what_never_runs_without_joins_is_found(graph: Graph) -> None:
    graph = {name: one.model_copy(update={"join": "any"}) for name, one in graph.items()}
    said = {place.split(".")[1] for place, _ in found(graph)}
    runs = set().union(*ways(graph))
    assert {name for name, one in graph.items() if name not in runs and not one.disabled} == said


def ways(graph: Graph) -> Iterator[set[str]]:
    """Yield the nodes that run, for every choice of ports; nodes stand in an order in which edges lead on."""
    for chosen in itertools.product("pq", repeat=len(graph)):
        ports = dict(zip(graph, chosen, strict=True))
        runs: set[str] = set()
        for name, one in graph.items():
            edges = [
                (before, port)
                for before, other in graph.items()
                for port, targets in other.then.items()
                if name in targets
            ]
            taken = [before in runs and ports[before] == port for before, port in edges]
            holds = not edges or (all(taken) if one.join == "all" else any(taken))
            if holds and not one.disabled:
                runs.add(name)
        yield runs
