"""The command `events`: bring events in from a file."""

import asyncio
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from headrace.api.logs import set_up_logs
from headrace.compose import load_settings, make_engine, no_workspace
from headrace.engine.engine import Engine
from headrace.engine.errors import BusyError, StoreError
from headrace.importing import Import, open_import
from headrace.terminal import CANNOT_START, INTERRUPTED, PROBLEMS, WRONG_USE, err, fail, plain, say

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def events() -> None:
    """Bring events in from a file."""


File = Annotated[Path, typer.Argument(metavar="FILE.ndjson", help="One JSON object a line.")]
Workspace = Annotated[
    Path | None, typer.Option(help="The workspace folder. Default: HEADRACE_WORKSPACE, else here.")
]
SourceName = Annotated[
    str | None, typer.Option(help="The source of all events. Default: each line's `source`.")
]
Data = Annotated[Path | None, typer.Option(help="The folder for what is written. Default: ./data.")]
Again = Annotated[
    bool, typer.Option("--again", help="Begin with the first line; what is there is not doubled.")
]


@app.command("import")
def import_events(
    file: File,
    workspace: Workspace = None,
    source: SourceName = None,
    data: Data = None,
    again: Again = False,
) -> None:
    """Bring events in from a file, through the workflows, into the store.

    A line is {"type", "properties", "context", "id", "time", "version", "session", "profile", "source"}; only `type` is
    needed, and `source` unless --source names it. A server may run at the same time. Stopped, it goes on where it was
    when it is run again, and no event counts twice: a line without an id gets one from the file and its number.
    Lines that cannot be taken are listed, with their numbers, in the folder `imports` of the data folder; then it
    ends with 1.

    Example: headrace events import orders.ndjson --workspace workflows/shop --source shop
    """
    if not file.is_file():
        fail(f"{file} is not a file.")
        raise typer.Exit(WRONG_USE)
    settings = load_settings(workspace, data=data)
    if not (settings.workspace / "sources.json").exists():
        fail(no_workspace(settings.workspace))
        raise typer.Exit(CANNOT_START)
    set_up_logs(settings.log_format, settings.log_level)
    engine, started = make_engine(settings), perf_counter()
    try:
        job = asyncio.run(import_file(engine, file, source, again=again))
    except (StoreError, BusyError, KeyboardInterrupt) as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        fail("It was interrupted." if interrupted else error)
        err().print("What was imported is kept. Run the same command again to go on.")
        raise typer.Exit(INTERRUPTED if interrupted else CANNOT_START) from None
    show_end(job, perf_counter() - started)


async def import_file(engine: Engine, file: Path, source: str | None, *, again: bool) -> Import:
    """Import a file and close the engine."""
    try:
        job = open_import(engine, file, source, again=again)
        await show_progress(job)
        return job
    finally:
        await engine.stop()


async def show_progress(job: Import) -> None:
    """Import, with a bar where a person looks."""
    columns = (TextColumn("importing"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = err()
    if job.started_at:
        console.print(f"Goes on after line {job.progress.lines}.")
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=job.file.stat().st_size, completed=job.started_at)
        await job.run(lambda offset: bar.update(task, completed=offset))


def show_end(job: Import, seconds: float) -> None:
    """Write what became of the lines; ends the command with 1 when some were not taken."""
    done = job.progress
    say(
        f"{done.lines} lines: [green]{done.accepted} accepted[/], {done.duplicates} known already, "
        f"{'[red]' if done.bad else ''}{done.bad} not taken{'[/]' if done.bad else ''} ({seconds:.1f} s)"
    )
    if done.bad:
        say(f"Why, by line: {plain(job.report)}")
        raise typer.Exit(PROBLEMS)
