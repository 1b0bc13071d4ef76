"""The command `test`: run the tests of workflows."""

import asyncio
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer
from pydantic import ValidationError

from headrace.commands.lint import check_folders, show_problems
from headrace.compose import chosen_workspaces
from headrace.engine.catalog import Catalog, find_plugins
from headrace.engine.errors import WorkspaceError
from headrace.engine.files.json_file import read_json_file
from headrace.engine.files.lint import lint, workspaces_in
from headrace.engine.files.problem import Problem
from headrace.engine.files.workflow_test import TestCase, TestFile
from headrace.engine.files.workspace import TEST_ENDING, WORKFLOWS, load_workspace
from headrace.engine.testing.runner import measure, run_tests
from headrace.junit import write_junit
from headrace.results import TestedWorkflow, show_coverage, show_totals, show_workflow
from headrace.terminal import PROBLEMS, WRONG_USE, fail, out

app = typer.Typer(add_completion=False)


Paths = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="PATHS",
        help="Workspace folders, or folders that hold some. Default: HEADRACE_WORKSPACE, else here.",
    ),
]
Words = Annotated[
    str,
    typer.Option("-k", metavar="TEXT", help="Only tests with this in the workflow's or the test's name."),
]
FailUnder = Annotated[
    float,
    typer.Option(min=0, max=100, help="Fail when the tests of a workflow take fewer percent of its ports."),
]
Junit = Annotated[Path | None, typer.Option(help="Also write the results as JUnit XML.")]


@app.command("test")
def run_all(paths: Paths = None, words: Words = "", fail_under: FailUnder = 0, junit: Junit = None) -> None:
    """Run the tests of workflows: workflows/NAME.test.json tests workflows/NAME.json.

    No network, no store, a clock that stands still. Ends with 1 when a test fails, a file cannot be used, or
    too little is covered.

    Example: headrace test workflows/shop --fail-under 100 -k "big order"
    """
    paths = chosen_workspaces(paths)
    check_folders(paths)
    started, catalog = perf_counter(), find_plugins()
    tested: list[TestedWorkflow] = []
    broken = False
    for folder in dict.fromkeys(each for path in paths for each in workspaces_in(path)):
        broken |= show_errors(folder, lint(folder, catalog, made_up))
        tested += run_workspace(folder, catalog, words)
    if junit is not None:
        write_junit(junit, tested)
    # What a part of the tests covers means nothing.
    covered = not tested or bool(words) or show_coverage(tested, fail_under)
    show_totals(tested, perf_counter() - started)
    if words and not any(each.results for each in tested):
        fail(f"No test has '{words}' in its name.")
        raise typer.Exit(WRONG_USE)
    if broken or not covered or any(not result.passed for each in tested for result in each.results):
        raise typer.Exit(PROBLEMS)


def made_up(name: str) -> str:
    """Return a value for a named secret: tests do not depend on the environment."""
    return f"secret {name}"


def show_errors(folder: Path, problems: list[Problem]) -> bool:
    """Write the errors of a workspace's files; say whether there are any."""
    errors = [problem for problem in problems if problem.is_error]
    show_problems(folder, errors, out())
    return bool(errors)


def run_workspace(folder: Path, catalog: Catalog, words: str) -> list[TestedWorkflow]:
    """Run the tests of a workspace's workflows, and write each result; what cannot be used is left out."""
    try:
        workspace = load_workspace(folder, catalog, made_up)
    except WorkspaceError:
        # Its problems are on the screen already.
        return []
    tested = []
    for workflow in workspace.workflows:
        file = f"{WORKFLOWS}/{workflow.name}{TEST_ENDING}"
        tests = [
            test
            for test in read_tests(folder, file)
            if words.lower() in f"{workflow.name} {test.name}".lower()
        ]
        results = asyncio.run(run_tests(workspace, workflow, tests))
        if results or not words:
            tested.append(TestedWorkflow(folder, file, workflow.name, results, measure(workflow, results)))
            show_workflow(tested[-1])
    return tested


def read_tests(folder: Path, file: str) -> list[TestCase]:
    """Return the tests of a file; none when it is not there, or cannot be used, which lint has said."""
    try:
        return TestFile.model_validate(read_json_file(folder, file).value).tests
    except ValidationError:
        return []
