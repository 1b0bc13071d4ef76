"""The command `lint`: name every problem in workspaces."""

import json
from collections.abc import Mapping
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from headrace.compose import chosen_workspaces, environment_secrets
from headrace.engine.catalog import find_plugins
from headrace.engine.files.lint import lint as find_problems
from headrace.engine.files.lint import workspaces_in
from headrace.engine.files.problem import Problem
from headrace.terminal import PROBLEMS, WRONG_USE, fail, out, plain, say

Found = Mapping[Path, list[Problem]]


class Format(StrEnum):
    """How the problems are written."""

    text = "text"
    json = "json"
    github = "github"


app = typer.Typer(add_completion=False)


@app.command()
def lint(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATHS",
            help="Workspace folders, or folders that hold some. Default: HEADRACE_WORKSPACE, else here.",
        ),
    ] = None,
    form: Annotated[
        Format, typer.Option("--format", help="For people, for programs, or for notes in a code review.")
    ] = Format.text,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
) -> None:
    """Name every problem in workspaces.

    What is asked of a workflow as a whole, such as whether a node can ever run, needs its members to be right first:
    it may come after the next mend.

    Each has a code, which docs/problems.md explains. Ends with 1 when there are errors.

    Example: headrace lint workflows/*/
    """
    found = find_all(chosen_workspaces(paths))
    {Format.text: show_text, Format.json: show_json, Format.github: show_github}[form](found)
    problems = [problem for each in found.values() for problem in each]
    if any(problem.is_error or strict for problem in problems):
        raise typer.Exit(PROBLEMS)


def find_all(paths: list[Path]) -> dict[Path, list[Problem]]:
    """Return the problems of every workspace that the paths mean."""
    check_folders(paths)
    catalog, secrets = find_plugins(), environment_secrets()
    folders = dict.fromkeys(folder for path in paths for folder in workspaces_in(path))
    return {folder: find_problems(folder, catalog, secrets) for folder in folders}


def check_folders(paths: list[Path]) -> None:
    """End the command when a path is no folder."""
    for path in paths:
        if not path.is_dir():
            fail(f"{path} is not a folder. Name the folder of a workspace, such as workflows/shop.")
            raise typer.Exit(WRONG_USE)


def summary(problems: list[Problem]) -> str:
    """Return how many errors and warnings there are, in words."""
    errors = sum(problem.is_error for problem in problems)
    counts = [(errors, "error"), (len(problems) - errors, "warning")]
    parts = [f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts if count]
    return " and ".join(parts) or "no problems"


def show_text(found: Found) -> None:
    """Write the problems by file, for people."""
    for folder, problems in found.items():
        show_problems(folder, problems, out())
        colour = "red" if any(each.is_error for each in problems) else "yellow" if problems else "green"
        say(f"[bold]{plain(folder)}[/]: [{colour}]{summary(problems)}[/]")


def show_problems(folder: Path, problems: list[Problem], console: Console) -> None:
    """Write the problems of one workspace, by file."""
    for file, group in groupby(problems, key=lambda problem: problem.file):
        console.print(f"[underline]{plain(folder / file)}[/]")
        for problem in group:
            where = "" if problem.line is None else f"{problem.line}:{problem.column} "
            colour = "red" if problem.is_error else "yellow"
            message = problem.message if problem.message.endswith((".", "?", "!")) else f"{problem.message}."
            place = f"{problem.place}: " if problem.place else ""
            fix = f" {problem.fix}" if problem.fix else ""
            text = plain(place + message + fix)
            console.print(f"  [dim]{where}[/][{colour}]{problem.severity}[/] [bold]{problem.code}[/] {text}")
        console.print()


def show_json(found: Found) -> None:
    """Write the problems as one JSON object."""
    rows = [
        {"workspace": str(folder), **problem._asdict(), "severity": problem.severity}
        for folder, problems in found.items()
        for problem in problems
    ]
    typer.echo(
        json.dumps({"problems": rows, "errors": sum(row["severity"] == "error" for row in rows)}, indent=2)
    )


def show_github(found: Found) -> None:
    """Write the problems as the commands that GitHub shows beside the lines of a change."""
    for folder, problems in found.items():
        for problem in problems:
            where = f"file={_escaped(str(folder / problem.file), property_value=True)}"
            if problem.line is not None:
                where += f",line={problem.line},col={problem.column}"
            text = _escaped(f"{problem.place}: {problem.message}. {problem.fix} [{problem.code}]")
            typer.echo(f"::{problem.severity} {where}::{text}")


def _escaped(text: str, *, property_value: bool = False) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if property_value else text
