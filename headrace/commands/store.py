"""The command `store`: check, copy and migrate what is kept."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, NamedTuple

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from headrace.compose import load_settings
from headrace.engine.errors import BusyError, StoreError, StoreRefused
from headrace.engine.store.copying import Copying, Counts, Found
from headrace.engine.store.finding import Finding, Level
from headrace.engine.store.moving import MOVED, MovedKind
from headrace.engine.store.upkeep import Migrated, check_store, migrate_store, open_moving, plan_migration
from headrace.terminal import CANNOT_START, INTERRUPTED, OK, PROBLEMS, WRONG_USE, err, fail, out, plain, say

app = typer.Typer(add_completion=False, no_args_is_help=True)

AWAY = 2
"""How `check` ends when the store cannot be reached; monitors know 2 as critical."""

STYLES: dict[Level, str] = {"fine": "green", "note": "yellow", "problem": "red", "away": "bold red"}
ENDS: dict[Level, int] = {"fine": OK, "note": OK, "problem": PROBLEMS, "away": AWAY}


@app.callback()
def store() -> None:
    """Check, copy and migrate the store: the embedded one, or one in Elasticsearch."""


def read_url(text: str | None) -> str | None:
    """Return the URL that an option or argument means: itself, or what stands in the file after an @."""
    if text is None or not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{text[1:]} cannot be read: {error}") from None


Url = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        callback=read_url,
        help="The store, or @FILE with its URL. Default: HEADRACE_STORE, else sqlite:.",
    ),
]
From = Annotated[
    str,
    typer.Argument(metavar="FROM", callback=read_url, help="The URL of the store to read, or @FILE with it."),
]
To = Annotated[
    str,
    typer.Argument(
        metavar="TO",
        callback=read_url,
        help="The URL of the store to write, or @FILE with it; the store is made when missing.",
    ),
]
Data = Annotated[Path | None, typer.Option(help="The folder that `sqlite:` alone means. Default: ./data.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


@app.command()
def check(
    url: Url = None,
    data: Data = None,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Compare a file's indices with its rows, too. It takes long.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look at a store, and say what is wrong with it.

    For both: can it be reached, the version of tables or mappings, what somebody changed in them, room on the disk,
    how many documents of each kind. For a file: damage, the write-ahead log, whether it can be locked. For a cluster:
    its health, templates, aliases, blocks, refresh interval, and records that wait for more than a minute. Nothing is
    changed, and a server may run.

    Green is fine, yellow good to know, red a problem. Ends with 0 without red, with 1 when there are problems, with 2
    when the store cannot be reached.

    Example: headrace store check --store elasticsearch://localhost:9200/headrace
    """
    settings = load_settings(data=data)
    findings = asyncio.run(look(url or settings.store, settings.data, thorough=thorough, show=not as_json))
    if as_json:
        typer.echo(json.dumps([finding._asdict() for finding in findings], indent=2, ensure_ascii=False))
    raise typer.Exit(max(ENDS[finding.level] for finding in findings))


async def look(url: str, data: Path, *, thorough: bool, show: bool) -> list[Finding]:
    """Check a store; each finding is shown as it comes."""
    findings: list[Finding] = []
    console = out()
    with err().status("looking …"):
        async for finding in check_store(url, data=data, thorough=thorough):
            findings.append(finding)
            if show:
                style = STYLES[finding.level]
                console.print(f"[{style}]{finding.level:<7}[/] {finding.name:<9} {plain(finding.text)}")
    return findings


@app.command()
def copy(
    source: From,
    target: To,
    data: Data = None,
    sample: Annotated[
        int, typer.Option(min=0, metavar="N", help="How many documents to compare at the end.")
    ] = 1000,
    into_existing: Annotated[
        bool,
        typer.Option(
            "--into-existing", help="Write into a store that has other data; no document is replaced."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy everything from one store to another, and compare them.

    Profiles, sessions, claims, events and the marks of their keys, failed events, effects, timers and traces go, from
    a file to a cluster, back, or between two of a kind. Stop the servers first. Or copy while they run, stop them, and
    run the same command again: it is quick, for it writes only what is new or changed. Then set HEADRACE_STORE to the
    new store and start them. A URL is as in HEADRACE_STORE; one with a password is better kept in a file, for others
    can see what a command line says.

    Interrupted or killed, run it again: what was copied is kept, compared with what is there now, and written only
    where that has changed. It refuses a store that has other data, and one that a server wrote to after it was copied.
    At the end the documents of each kind are counted in both stores and some are compared whole; when something differs
    it is named, and the command ends with 1.

    Example: headrace store copy sqlite:data/headrace.db elasticsearch://localhost:9200/headrace
    """
    data = load_settings(data=data).data
    began = perf_counter()
    told = run_copy(copy_all(source, target, data, sample, into_existing=into_existing))
    if as_json:
        show_json(told)
    else:
        show_copy(told, perf_counter() - began)
    if told.found.differences:
        raise typer.Exit(PROBLEMS)


class Copied(NamedTuple):
    """What a copy did: documents of each kind in both stores, how many it wrote, what differs.

    `written` is empty when another copy was ended before it.
    """

    source: Counts
    target: Counts
    written: Counts
    found: Found


def run_copy(copying: Coroutine[Any, Any, Copied]) -> Copied:
    """Run a copy; ends the command when it is interrupted or a store cannot be used."""
    try:
        return asyncio.run(copying)
    except (StoreError, BusyError, KeyboardInterrupt) as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        fail("It was interrupted." if interrupted else error)
        if not isinstance(error, StoreRefused):
            err().print("What was copied is kept. Run the same command again to go on.")
        raise typer.Exit(INTERRUPTED if interrupted else CANNOT_START) from None


async def copy_all(source: str, target: str, data: Path, sample: int, *, into_existing: bool) -> Copied:
    """Copy and compare."""
    one = await open_moving(source, data=data, make=False)
    try:
        other = await open_moving(target, data=data, make=True)
        try:
            job = Copying(one, other, into_existing=into_existing)
            with err().status("counting …"):
                await job.begin()
            if job.resumed:
                err().print("The last copy was ended: only what is new or has changed is written.")
            written = await show_progress(job)
            if job.resumed:
                # What was written after the last note is not known.
                written = {}
            with err().status("comparing …"):
                mine, theirs, found = await job.compare(sample)
            return Copied(mine, theirs, written, found)
        finally:
            await other.close()
    finally:
        await one.close()


async def show_progress(job: Copying) -> Counts:
    """Copy, with a bar for each kind where a person looks; returns how many documents of each were written."""
    columns = (
        *(TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn()),
        *(TextColumn("{task.fields[rate]}"), TimeRemainingColumn()),
    )
    console = err()
    tasks: dict[MovedKind, tuple[TaskID, float, int]] = {}
    written: Counts = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        async for at in job.run():
            if at.kind not in tasks:
                task = bar.add_task(at.kind, total=at.total, completed=at.done, rate="")
                tasks[at.kind] = task, perf_counter(), at.done
            task, began, first = tasks[at.kind]
            rate = (at.done - first) / max(perf_counter() - began, 0.001)
            bar.update(task, completed=at.done, total=at.total, rate=f"{rate:,.0f}/s")
            written[at.kind] = at.written
    return written


def show_copy(told: Copied, seconds: float) -> None:
    """Write the counts, and what differs."""
    mine, theirs, written, found = told
    table = Table("kind", box=None, pad_edge=False)
    shown = {"from": mine, "to": theirs} | ({"written": written} if written else {})
    for name in shown:
        table.add_column(name, justify="right")
    for kind in MOVED:
        style = "" if mine[kind] == theirs[kind] else "yellow"
        numbers = (f"{counts[kind]:,}" for counts in shown.values())
        table.add_row(kind, *numbers, style=style)
    out().print(table)
    for remark in found.remarks:
        say(f"[yellow]{plain(remark)}[/]")
    for difference in found.differences:
        say(f"[red]{plain(difference)}[/]")
    what = f"{found.compared:,} documents compared whole, {seconds:.1f} s"
    if found.differences:
        say(f"[red]The stores differ[/] ({what}).")
    else:
        say(f"[green]The stores are equal[/] ({what}).")


def show_json(told: Copied) -> None:
    """Write the same for a program."""
    members = {"from": told.source, "to": told.target, "written": told.written, **told.found._asdict()}
    typer.echo(json.dumps(members, indent=2, ensure_ascii=False))


@app.command()
def migrate(
    url: Url = None,
    data: Data = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done; change nothing.")
    ] = False,
    stopped: Annotated[
        bool, typer.Option("--stopped", help="No server runs: no waiting for requests of one, 15 s an index.")
    ] = False,
    abandon: Annotated[
        bool,
        typer.Option("--abandon", help="Give a migration up that was ended: old indices take writes again."),
    ] = False,
) -> None:
    """Bring a store of an older version to this one.

    In a cluster the documents of each old index are copied into a new one, which then takes its place. While one is
    copied it takes no writes: servers answer 503 for as long, and nothing is lost. Ended in the middle, it goes on when
    it is run again. A file is changed at once, as every start of a server does. A store of this version stays as it
    is. Take a snapshot, or a backup, first.

    Example: headrace store migrate --dry-run
    """
    if dry_run and abandon:
        fail("Say --dry-run or --abandon, not both.")
        raise typer.Exit(WRONG_USE)
    settings = load_settings(data=data)
    try:
        asyncio.run(
            bring(url or settings.store, settings.data, dry_run=dry_run, abandon=abandon, stopped=stopped)
        )
    except KeyboardInterrupt:
        fail("It was interrupted. Run the same command again to go on, or say --abandon.")
        raise typer.Exit(INTERRUPTED) from None


async def bring(url: str, data: Path, *, dry_run: bool, abandon: bool, stopped: bool) -> None:
    """Plan or do a migration, and write what is done."""
    steps = await plan_migration(url, data=data)
    for step in steps:
        say(f"{plain(step.name)}: {plain(step.text)}")
    if not steps:
        say("The store has the version of this program: there is nothing to do.")
    elif dry_run:
        say(f"[bold]{len(steps)}[/] to do. Nothing was changed.")
    elif steps:
        began = perf_counter()
        await show_migration(migrate_store(url, data=data, abandon=abandon, stopped=stopped))
        say(f"[green]{'Given up.' if abandon else 'Done.'}[/] {perf_counter() - began:.1f} s")


async def show_migration(progress: AsyncIterator[Migrated]) -> None:
    """Go through a migration, with a bar for each index where a person looks."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = err()
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        async for at in progress:
            if at.name not in tasks:
                tasks[at.name] = bar.add_task(at.name, total=at.total)
            bar.update(tasks[at.name], completed=at.done, total=at.total)
