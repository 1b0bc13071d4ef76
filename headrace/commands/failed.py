"""The command `failed`: events that were refused."""

import asyncio
import json
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.tree import Tree

from headrace.api.failed import mended
from headrace.api.logs import set_up_logs
from headrace.commands.effects import Hours, Tenant
from headrace.commands.store import AsJson, Data, Url
from headrace.compose import load_settings, make_engine, no_workspace
from headrace.engine import strict_json
from headrace.engine.engine import Engine
from headrace.engine.errors import BusyError, InputError, StoreError
from headrace.engine.model import Doc, utc_now
from headrace.engine.replay.past import find_failed
from headrace.engine.replay.resend import NONE, Refused, resend
from headrace.engine.steps.failed import FAILED
from headrace.engine.store.protocol import Query, Store
from headrace.stored import working
from headrace.terminal import CANNOT_START, PROBLEMS, WRONG_USE, err, fail, out, plain, say

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def failed() -> None:
    """See which events were refused and why, mend them, and send them again."""


Key = Annotated[
    str,
    typer.Argument(metavar="ID", help="The id of a failed event, as the list has it, or that of its event."),
]
Keys = Annotated[
    list[str], typer.Argument(metavar="ID...", help="The ids of failed events, or of their events.")
]
Type = Annotated[str | None, typer.Option("--type", help="Only those of this type.")]
Source = Annotated[str | None, typer.Option(help="Only those from this source.")]
Every = Annotated[bool, typer.Option("--all", help="Also those that were sent again.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="At most so many.")]
Raw = Annotated[bool, typer.Option("--raw", help="Only what was sent, as JSON: to be mended.")]
With = Annotated[
    str | None,
    typer.Option(
        "--with", metavar="FILE", help="A JSON object with the members that are changed; - reads it."
    ),
]
Workspace = Annotated[
    Path | None, typer.Option(help="The workspace folder. Default: HEADRACE_WORKSPACE, else here.")
]


@app.command("list")
def list_failed(
    kind: Type = None,
    source: Source = None,
    within: Hours = None,
    every: Every = False,
    limit: Limit = 50,
    tenant: Tenant = "main",
    url: Url = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List events that were refused, the newest first. Those that were sent again since are left out.

    Example: headrace failed list --type purchase-order
    """
    since = None if within is None else utc_now() - timedelta(hours=within)
    query = Query("failed", tenant, type=kind, source=source, since=since, limit=limit)
    asked = query if every else replace(query, status=FAILED)

    async def read(store: Store) -> list[Doc]:
        return (await store.find(asked)).items

    found = working(url, data, read)
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    table = Table("id", "received", "source", "event", "type", "code", "why", box=None, pad_edge=False)
    for doc in found:
        texts = (doc[name] for name in ("id", "received", "source", "event", "type", "code"))
        style = "dim" if "resent" in doc else ""
        table.add_row(*(plain(text) for text in texts), plain(told(doc["reasons"][0])), style=style)
    out().print(table if found else "There are none.")


@app.command()
def show(
    key: Key,
    raw: Raw = False,
    tenant: Tenant = "main",
    url: Url = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show one event that was refused: every reason, and what was sent.

    Example: headrace failed show 0f3c8a54d1b2c6e79a8b4c5d6e7f8091 --raw > event.json
    """
    found = working(url, data, lambda store: find_one(store, tenant, key))
    if found is None:
        fail(f"There is no failed event {key}.")
        raise typer.Exit(WRONG_USE)
    if raw or as_json:
        typer.echo(json.dumps(found["raw"] if raw else found, indent=2, ensure_ascii=False))
    else:
        out().print(drawn(found))


@app.command("resend")
def resend_failed(
    keys: Keys,
    changed: With = None,
    workspace: Workspace = None,
    tenant: Tenant = "main",
    url: Url = None,
    data: Data = None,
) -> None:
    """Send events again that were refused, as they were or mended, through all steps and workflows.

    Each keeps its id and its source, so that it is never taken twice. A server may run meanwhile. With --with one event
    is mended: the members in FILE take the place of those that were sent. Ends with 1 when one was refused again, or
    was not there.

    Example: headrace failed resend 0f3c8a54d1b2c6e79a8b4c5d6e7f8091 --with event.json
    """
    if changed is not None and len(keys) > 1:
        fail("--with mends one event: name one.")
        raise typer.Exit(WRONG_USE)
    settings = load_settings(workspace, data=data, store=url)
    if not (settings.workspace / "sources.json").exists():
        fail(no_workspace(settings.workspace))
        raise typer.Exit(CANNOT_START)
    set_up_logs(settings.log_format, settings.log_level)
    changes = None if changed is None else read_changes(changed)
    try:
        refused = asyncio.run(send_all(make_engine(settings), tenant, keys, changes))
    except (StoreError, BusyError) as error:
        fail(error)
        raise typer.Exit(CANNOT_START) from None
    for line in refused:
        err().print(plain(line))
    say(f"{len(keys) - len(refused)} events taken.")
    if refused:
        raise typer.Exit(PROBLEMS)


def read_changes(name: str) -> object:
    """Return the JSON of a file or of standard input; ends the command when it is none."""
    try:
        return strict_json.decode(sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes())
    except OSError as error:
        fail(f"{name}: {error.strerror}")
    except InputError as error:
        fail(f"{name}: {error.detail}")
    raise typer.Exit(WRONG_USE)


async def send_all(engine: Engine, tenant: str, keys: list[str], changes: object) -> list[str]:
    """Send events again and close the engine; returns a line for each that was not taken."""
    refused = []
    try:
        for key in keys:
            try:
                done = await send(engine, tenant, key, changes)
            except InputError as error:
                done = Refused(
                    error.code, "; ".join(f"{each.pointer} {each.message}" for each in error.fields)
                )
            if isinstance(done, Refused):
                refused.append(f"{key}: {done.reason}")
    finally:
        await engine.stop()
    return refused


async def send(engine: Engine, tenant: str, key: str, changes: object) -> Doc | Refused:
    """Send one event again, with what is changed. Raises InputError when that cannot be sent."""
    doc = await find_one(engine.store, tenant, key)
    if doc is None:
        return NONE
    return await resend(engine.parts, tenant, doc["id"], None if changes is None else mended(doc, changes))


async def find_one(store: Store, tenant: str, key: str) -> Doc | None:
    """Return the failed event of an id; of an event's id the newest that was not sent again, else the newest."""
    doc = await store.get("failed", key)
    if doc is not None:
        return doc if doc["tenant"] == tenant else None
    found = await find_failed(store, tenant, key)
    return next((one for one in found if one.get("status") == FAILED), found[0] if found else None)


def told(reason: Doc) -> str:
    """Return a reason in one line."""
    return f"{reason['pointer']} {reason['message']}".strip()


def drawn(doc: Doc) -> Tree:
    """Return a failed event as a tree."""
    root = Tree(f"[bold]{plain(doc['event'])}[/] [red]{plain(doc['code'])}[/]", guide_style="dim")
    if "resent" in doc:
        root.add(f"[green]sent again {plain(doc['resent']['at'])}[/]")
    for reason in doc["reasons"]:
        root.add(plain(told(reason)))
    root.add(f"received {plain(doc['received'])} from {plain(doc['source'])} by {plain(doc['door'])}")
    root.add(f"profile {plain(doc['profile'])}, session {plain(doc['session'])}")
    raw = root.add("sent")
    for name, value in doc["raw"].items():
        raw.add(f"{plain(name)}: {plain(json.dumps(value, ensure_ascii=False))}")
    return root
