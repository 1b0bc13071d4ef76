"""Name every problem of a workspace at once."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from headrace.engine.catalog import Catalog
from headrace.engine.files.check_consent import never_given
from headrace.engine.files.check_model import check_model
from headrace.engine.files.check_starts import never_started, without_circles
from headrace.engine.files.check_workflow import Surroundings, check_workflow
from headrace.engine.files.declared import SOURCES, read_declared
from headrace.engine.files.json_file import JsonFile, Place, read_json_file
from headrace.engine.files.problem import Problem
from headrace.engine.files.source import Secrets
from headrace.engine.files.workflow_test import TestCase, TestFile
from headrace.engine.files.workspace import TEST_ENDING, WORKFLOWS, list_workflows, stray_files
from headrace.engine.suggest import did_you_mean
from headrace.engine.workflow import Workflow


def lint(path: Path, catalog: Catalog, secrets: Secrets) -> list[Problem]:
    """Return every problem of every file of a workspace, test files too, file by file. Never raises for a file."""
    declared = read_declared(path, secrets)
    around = Surroundings(catalog, declared.names, declared.event_types or {}, secrets)
    names, problems = list_workflows(path)
    around = replace(around, names=replace(around.names, workflows=frozenset(names)))
    problems = [*catalog.problems, *declared.problems, *problems]
    workflows: dict[str, Workflow | None] = {}
    files = {name: read_json_file(path, f"{WORKFLOWS}/{name}.json") for name in names}
    for name, file in files.items():
        workflows[name], own = check_workflow(name, file, around)
        problems += own
    good = {name: workflow for name, workflow in workflows.items() if workflow is not None}
    problems += without_circles(good, {}, files)[1]
    if len(good) == len(files):
        # A broken one may be who starts it, or who records it.
        problems += never_started(good, files)
        if declared.sources is not None:
            sources = read_json_file(path, SOURCES)
            problems += never_given(declared.sources, list(good.values()), sources)
    for file in _test_files(path):
        problems += _check_tests(file, workflows, around)
    problems += stray_files(path)
    return sorted(problems, key=lambda problem: (problem.file, problem.line or 0, problem.column or 0))


def workspaces_in(path: Path) -> list[Path]:
    """Return the workspaces that a path means: itself, or the folders in it that look like one."""
    if _looks_like_one(path) or not path.is_dir():
        return [path]
    return sorted(folder for folder in path.iterdir() if _looks_like_one(folder)) or [path]


def _looks_like_one(path: Path) -> bool:
    return (path / "sources.json").is_file() or (path / WORKFLOWS).is_dir()


def _test_files(path: Path) -> Iterator[JsonFile]:
    try:
        names = sorted(file.name for file in (path / WORKFLOWS).iterdir() if file.name.endswith(TEST_ENDING))
    except OSError:
        return
    for name in names:
        if not name.startswith("."):
            yield read_json_file(path, f"{WORKFLOWS}/{name}")


def _check_tests(
    file: JsonFile, workflows: dict[str, Workflow | None], around: Surroundings
) -> Iterator[Problem]:
    yield from file.problems
    name = Path(file.file).name.removesuffix(TEST_ENDING)
    if name not in workflows:
        message = f"there is no workflow '{name}' for these tests"
        yield Problem(file.file, "", "T01", message, did_you_mean(name, workflows))
    if file.value is None:
        return
    model, problems = check_model(TestFile, file.value, file)
    yield from problems
    for index, test in enumerate(model.tests if model else ()):
        at: Place = ("tests", index)
        yield from _check_test(test, file, at, around)
        workflow = workflows.get(name)
        if workflow is not None:
            yield from _check_names(test, file, at, workflow)


def _check_test(test: TestCase, file: JsonFile, at: Place, around: Surroundings) -> Iterator[Problem]:
    sources = around.names.sources
    if test.source is not None and sources is not None and test.source not in sources:
        fix = did_you_mean(test.source, sources)
        yield file.problem((*at, "source"), "N03", f"no source '{test.source[:60]}'", fix)
    for index, event in enumerate(test.events):
        if (event.type is None) == (event.advance is None):
            message = "an entry has either a 'type', or an 'advance' that moves the clock"
            yield file.problem((*at, "events", index), "M04", message)


def _check_names(test: TestCase, file: JsonFile, at: Place, workflow: Workflow) -> Iterator[Problem]:
    expect = (*at, "expect")
    nodes = {node.name: node for node in workflow.nodes}
    named: list[tuple[Place, str]] = [((*at, "mocks", node), node) for node in test.mocks]
    named += [((*expect, "path", index), node) for index, node in enumerate(test.expect.path or ())]
    for member in ("ports", "nodes", "errors"):
        named += [((*expect, member, node), node) for node in getattr(test.expect, member)]
    for index, effect in enumerate(test.expect.effects or ()):
        named += [((*expect, "effects", index, "node"), effect.node)] if effect.node else []
    for place, node in named:
        if node not in nodes:
            message = f"the workflow has no node '{node[:60]}'"
            yield file.problem(place, "T02", message, did_you_mean(node, nodes))
    ports = [((*at, "mocks", node, "port"), node, mock.port) for node, mock in test.mocks.items()]
    ports += [((*expect, "ports", node), node, port) for node, port in test.expect.ports.items()]
    for place, node, port in ports:
        if node in nodes and port not in nodes[node].ports:
            message = f"the node '{node}' has no port '{port[:60]}'"
            yield file.problem(place, "T03", message, f"Ports: {', '.join(sorted(nodes[node].ports))}.")
