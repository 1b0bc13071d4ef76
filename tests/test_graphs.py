"""A table of workflow shapes, each with the waves that it must run in."""

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.engine.errors import NodeError
from headrace.engine.plugin import Out, Plugin, Step
from headrace.engine.run import Run, run_workflow
from headrace.engine.trace import traced
from headrace.engine.workflow import Workflow, WorkflowFile, compile_workflow
from tests.makers import DoesIo, Scripted, ScriptedIo, catalog, leave, make_passage, path_of
from tests.reference_walker import walk

GRAPHS = sorted(Path(__file__).with_name("graphs").glob("*.json"))


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def failing(_: Step) -> Out:
    raise NodeError("it failed")


def with_io(port: str) -> DoesIo:
    async def does(step: Step) -> Out:
        return failing(step) if port == "!" else Out(port)

    return does


def compiled(graph: dict[str, Any], io: bool) -> Workflow:
    nodes = {name: {"plugin": "scripted", **node} for name, node in graph["nodes"].items()}
    file = WorkflowFile.model_validate({"on": {"event": ["*"]}, "nodes": nodes})
    ports = graph.get("ports", {})
    plugins: dict[str, Plugin[Any]] = {}
    for name, node in file.nodes.items():
        port = ports.get(name, "a")
        if node.plugin in catalog():
            kind = catalog()[node.plugin].plugin
            plugins[name] = kind(kind.config_type.model_validate(node.config))
        elif io:
            plugins[name] = ScriptedIo(with_io(port))
        else:
            plugins[name] = Scripted(failing if port == "!" else leave(port))
    return compile_workflow("graph", b"", file, plugins)


async def run_graph(graph: dict[str, Any], io: bool = False, tracing: bool = False) -> Run:
    workflow = compiled(graph, io)
    passage = make_passage(event={"properties": graph.get("event", {})})
    return await run_workflow(traced(workflow) if tracing else workflow, passage)


@pytest.mark.parametrize("tracing", [False, True], ids=["plain", "traced"])
@pytest.mark.parametrize("io", [False, True], ids=["at once", "with io"])
@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.stem)
async def test_graph(path: Path, io: bool, tracing: bool) -> None:
    graph = read(path)
    run = await run_graph(graph, io, tracing)
    assert path_of(run) == [name for wave in graph["waves"] for name in wave], graph["about"]
    assert run.error == graph.get("error", "")


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.stem)
async def test_the_reference_walker_agrees(path: Path) -> None:
    graph = read(path)
    run = await run_graph(graph)
    ports = {done.node.name: done.out.port for done in run.done}
    if not run.stopped:
        assert walk(graph["nodes"], ports) == graph["waves"]


def test_the_table_has_every_shape() -> None:
    assert len(GRAPHS) >= 40
    assert all(read(path)["about"].endswith(".") for path in GRAPHS)
