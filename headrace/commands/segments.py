"""The command `segments`: who is in which group, and why."""

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.tree import Tree

from headrace.commands.replay import open_draft
from headrace.commands.store import AsJson, Data, Url
from headrace.compose import load_settings
from headrace.engine.files.watched import Computed
from headrace.engine.files.workspace import Workspace
from headrace.engine.model import Doc, utc_now
from headrace.engine.segments.explain import explain
from headrace.engine.segments.known import describe
from headrace.engine.segments.rebuild import Progress as Done
from headrace.engine.segments.rebuild import Rebuild
from headrace.engine.store.protocol import Store
from headrace.engine.suggest import did_you_mean
from headrace.engine.testing.expectation import shown
from headrace.stored import print_found, there, working
from headrace.terminal import INTERRUPTED, PROBLEMS, WRONG_USE, err, fail, out, plain, say

app = typer.Typer(add_completion=False, no_args_is_help=True)

Tenant = Annotated[str, typer.Option(help="Whose profiles.")]
Folder = Annotated[
    Path | None,
    typer.Option(metavar="WORKSPACE", help="The workspace. Default: HEADRACE_WORKSPACE, else here."),
]
SegmentName = Annotated[str, typer.Argument(metavar="SEGMENT", help="The name of a segment.")]
Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SEGMENT…]", help="Only these. Default: all that have a condition."),
]
ProfileId = Annotated[str, typer.Argument(metavar="PROFILE", help="The id of a profile.")]


@app.callback()
def segments() -> None:
    """See who is in which segment and why, or ask their conditions of all profiles."""


@app.command("list")
def list_segments(
    workspace: Folder = None,
    tenant: Tenant = "main",
    url: Url = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List the segments: how many profiles are in each, and whether a rebuild is due.

    Example: headrace segments list
    """
    files = _open(workspace)
    declared = files.declared.segments or {}

    async def read(store: Store) -> list[Doc]:
        return await describe(store, tenant, declared, files.watched)

    found = working(url, data, read)
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    table = Table("segment", "profiles", "rebuild", "by time", "condition", box=None, pad_edge=False)
    for doc in found:
        style = "yellow" if doc.get("rebuild") == "due" else ""
        table.add_row(
            plain(doc["segment"]),
            f"{doc['members']:,}",
            doc.get("rebuild", ""),
            "yes" if doc.get("by_time") else "",
            plain(doc.get("when", "nodes write it")),
            style=style,
        )
    out().print(table if found else "There are none.")


@app.command("explain")
def explain_segment(
    segment: SegmentName,
    profile: ProfileId,
    workspace: Folder = None,
    tenant: Tenant = "main",
    url: Url = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Say why a profile is in a segment, or is not: each part of the condition with its value.

    Example: headrace segments explain buyer 8c1f6f5e-2f1b-4c55-9a3e-0d6f1f0c2b7a
    """
    files = _open(workspace)
    (chosen,) = _chosen(files, [segment])

    async def read(store: Store) -> Doc | None:
        return await explain(store, files.sources, tenant, chosen, profile, utc_now())

    found = working(url, data, read)
    told = there(found, f"profile {profile}")
    print_found(told, as_json, lambda: drawn(told))


@app.command()
def rebuild(
    names: Names = None,
    workspace: Folder = None,
    tenant: Tenant = "main",
    url: Url = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Ask the conditions of segments of all profiles, from the events that are stored.

    It is due when a segment is new, or its condition was changed. Servers may run. No internal events are made: what a
    workflow does for those who enter is not done for everybody at once. Interrupted, it goes on where it was when it is
    run again.

    Ends with 1 when profiles could not be rebuilt, since they were written all the time, or a condition failed.

    Example: headrace segments rebuild
    """
    files = _open(workspace)
    chosen = [segment for segment in _chosen(files, names) if segment.when.is_lasting]
    if not chosen:
        say("There is nothing to rebuild: no segment has a condition that can be asked at any time.")
        return

    async def work(store: Store) -> Done:
        return await _rebuild(Rebuild(store, files, tenant, chosen))

    try:
        done = working(url, data, work)
    except (KeyboardInterrupt, asyncio.CancelledError):
        fail("It was interrupted. Run the same command again to go on.")
        raise typer.Exit(INTERRUPTED) from None
    _tell(done, as_json=as_json)
    if done.busy or done.errors:
        raise typer.Exit(PROBLEMS)


def _tell(done: Done, *, as_json: bool) -> None:
    if as_json:
        told = {"profiles": done.done, "changed": done.changed, "busy": done.busy, "errors": done.errors}
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    say(f"{done.done:,} profiles were asked, {done.changed:,} of them changed.")
    for error in done.errors:
        err().print(f"[red]{plain(error)}[/]")
    if done.busy:
        err().print(f"{done.busy:,} were written all the time. Run the same command again later.")


async def _rebuild(job: Rebuild) -> Done:
    """Rebuild, with a bar where a person looks."""
    columns = (
        *(TextColumn("profiles"), BarColumn(), MofNCompleteColumn()),
        *(TextColumn("{task.fields[changed]} changed"), TimeRemainingColumn()),
    )
    console = err()
    await job.begin()
    if job.resumed:
        console.print("It goes on where the last rebuild was ended.")
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("profiles", total=job.progress.total, changed=0)
        async for at in job.run():
            bar.update(task, completed=at.done, total=max(at.total, at.done), changed=f"{at.changed:,}")
    return job.progress


def _open(workspace: Path | None) -> Workspace:
    return open_draft(load_settings(workspace), strict=False)


def _chosen(files: Workspace, names: list[str] | None) -> list[Computed]:
    """Return computed segments by name, or all; ends the command for a name that is none."""
    computed = {segment.name: segment for segment in files.watched.segments}
    for name in names or ():
        if name in computed:
            continue
        if name in files.segments:
            fail(f"{name}: nodes put profiles into this segment; it has no condition.")
        else:
            fail(f"There is no segment {name!r}. {did_you_mean(name, computed)}")
        raise typer.Exit(WRONG_USE)
    return [segment for segment in computed.values() if not names or segment.name in names]


def drawn(told: Doc) -> Tree:
    """Return an explanation as a tree."""
    is_in = "is in" if told["is_member"] else "is not in"
    root = Tree(f"{plain(told['profile'])} [bold]{is_in}[/] {plain(told['segment'])}", guide_style="dim")
    if told["holds"] is None:
        root.add(f"[yellow]not known yet: {plain(', '.join(told['unknown']))}[/] (headrace segments rebuild)")
    if missing := told.get("missing_consents"):
        names = plain(", ".join(missing))
        root.add(f"[yellow]not given: {names}[/]; time alone and a rebuild leave it where it is")
    elif told["holds"] not in (None, told["is_member"]):
        when = "the next event or sweep"
        root.add(f"[yellow]its condition is {shown(told['holds'])} now; {when} changes that[/]")
    _draw(root, told["parts"])
    return root


def _draw(tree: Tree, parts: list[Doc]) -> None:
    for part in parts:
        branch = tree.add(f"{_sign(part['value'])} {plain(part['text'])}")
        if part.get("parts"):
            _draw(branch, part["parts"])
            continue
        for name, value in part["reads"].items():
            branch.add(f"[dim]{plain(name)}[/] {plain(shown(value))[:200]}")


def _sign(value: Any) -> str:
    if isinstance(value, dict) and "error" in value:
        return f"[red]failed: {plain(value['error'])}[/]"
    return "[green]yes[/]" if value else "[red]no [/]"
