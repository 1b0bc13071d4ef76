"""The command `timers`: runs that wait, and those that waited."""

import json
from datetime import timedelta
from typing import Annotated

import typer
from rich.table import Table
from rich.tree import Tree

from headrace.commands.effects import Event, Hours, Tenant
from headrace.commands.store import AsJson, Data, Url
from headrace.engine.model import Doc, iso, utc_now
from headrace.engine.store.protocol import Query, Store
from headrace.engine.suggest import did_you_mean
from headrace.engine.timers.cancel import Refused, cancel
from headrace.engine.timers.waiting import STATUSES, shown_timer
from headrace.stored import print_found, the_one, working
from headrace.terminal import PROBLEMS, WRONG_USE, err, fail, out, plain, say

app = typer.Typer(add_completion=False, no_args_is_help=True)

STYLES = {"fired": "green", "pending": "yellow", "dead": "red", "cancelled": "dim", "missed": "dim"}


@app.callback()
def timers() -> None:
    """See which runs wait and which waited, or cancel one."""


Status = Annotated[str | None, typer.Option(help=f"Only those that are {', '.join(STATUSES[:-1])} or dead.")]
Profile = Annotated[str | None, typer.Option(metavar="ID", help="Only those of this profile.")]


@app.command("list")
def list_timers(
    status: Status = None,
    profile: Profile = None,
    event: Event = None,
    within: Hours = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="At most so many.")] = 50,
    tenant: Tenant = "main",
    url: Url = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List timers, the newest first: runs that wait, what wakes them, and ticks of schedules.

    Example: headrace timers list --status pending
    """
    if status is not None and status not in STATUSES:
        fail(f"There is no status {status!r}. {did_you_mean(status, STATUSES)}")
        raise typer.Exit(WRONG_USE)
    since = None if within is None else utc_now() - timedelta(hours=within)
    query = Query("timer", tenant, status=status, profile=profile, event=event, since=since, limit=limit)

    async def read(store: Store) -> list[Doc]:
        return [shown_timer(doc) for doc in (await store.find(query)).items]

    found = working(url, data, read)
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    table = Table("id", "kind", "status", "due", "workflow", "node", "profile", box=None, pad_edge=False)
    for doc in found:
        names = ("id", "kind", "status", "due", "workflow", "node", "profile")
        table.add_row(
            *(plain(doc.get(name) or "") for name in names), style=STYLES.get(str(doc["status"]), "")
        )
    out().print(table if found else "There are none.")


@app.command()
def show(
    key: Annotated[str, typer.Argument(metavar="ID", help="The id of a timer.")],
    tenant: Tenant = "main",
    url: Url = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show one timer: what its run waits for, and which way it went on.

    Example: headrace timers show 0f3c8a54d1b2c6e79a8b4c5d6e7f8091
    """

    found = shown_timer(the_one(url, data, "timer", key, tenant, "timer"))
    print_found(found, as_json, lambda: drawn(found))


@app.command("cancel")
def cancel_timers(
    keys: Annotated[list[str], typer.Argument(metavar="ID…", help="The ids of timers.")],
    tenant: Tenant = "main",
    url: Url = None,
    data: Data = None,
) -> None:
    """Cancel runs that wait: they surely never go on. A server may run.

    Ends with 1 when one was not there, or was over already.

    Example: headrace timers cancel 0f3c8a54d1b2c6e79a8b4c5d6e7f8091
    """

    async def work(store: Store) -> list[str]:
        refused = []
        for key in keys:
            done = await cancel(store, tenant, key, f"cancelled by an operator, {iso(utc_now())}")
            if isinstance(done, Refused):
                refused.append(f"{key}: {done.reason}")
        return refused

    refused = working(url, data, work)
    for line in refused:
        err().print(plain(line))
    say(f"{len(keys) - len(refused)} timers cancelled.")
    if refused:
        raise typer.Exit(PROBLEMS)


def drawn(doc: Doc) -> Tree:
    """Return a timer as a tree."""
    style = STYLES.get(str(doc["status"]), "")
    root = Tree(f"[bold]{doc['id']}[/] [{style}]{plain(doc['status'])}[/]", guide_style="dim")
    for name in ("reason", "error"):
        if doc.get(name):
            root.add(plain(doc[name]))
    root.add(f"{plain(doc.get('kind'))} of {plain(doc.get('workflow'))} {plain(doc.get('version') or '')}")
    if "tick" in doc:
        whom = f"the segment {doc['segment']}" if doc["segment"] else "no profile"
        root.add(f"tick of {plain(doc['tick'])} for {plain(whom)}, {doc.get('done', 0)} events made")
    else:
        root.add(f"event {plain(doc.get('event'))}, profile {plain(doc.get('profile'))}")
    root.add(f"made {plain(doc['created'])}, due {plain(doc['due'])}")
    for node, held in doc.get("held", {}).items():
        what = f" for {plain(', '.join(held['types']))}" if "types" in held else ""
        root.add(f"{plain(node)} waits{what} until {held['due']}")
    for run in doc.get("runs", ()):
        branch = root.add(f"{plain(run['workflow'])}: {plain(run.get('path') or run.get('skipped'))}")
        if run.get("error"):
            branch.add(f"[red]{plain(run['error'])}[/]")
    return root
