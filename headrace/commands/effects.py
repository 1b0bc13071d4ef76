"""The command `effects`: what is to be sent, and what was."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.table import Table
from rich.tree import Tree

from headrace.commands.store import AsJson, Data, Url
from headrace.engine.model import Doc
from headrace.engine.outbox.effects import STATUSES, Deed, Refused, do, shown
from headrace.engine.store.protocol import Query, Store
from headrace.engine.suggest import did_you_mean
from headrace.stored import print_found, the_one, working
from headrace.terminal import PROBLEMS, WRONG_USE, err, fail, out, plain, say

app = typer.Typer(add_completion=False, no_args_is_help=True)

PAGE = 200
STYLES = {"sent": "green", "pending": "yellow", "dead": "red", "dropped": "dim"}

T = TypeVar("T")


@app.callback()
def effects() -> None:
    """See what is to be sent and what was, send it again, or drop it."""


Keys = Annotated[list[str] | None, typer.Argument(metavar="ID", help="The ids of effects.")]
Tenant = Annotated[str, typer.Option(help="Whose effects.")]
Status = Annotated[
    str | None, typer.Option(help=f"Only those that are {', '.join(STATUSES[:-1])} or dropped.")
]
Host = Annotated[str | None, typer.Option(help="Only those to this host.")]
Event = Annotated[str | None, typer.Option(metavar="KEY", help="Only those of the event with this key.")]
Hours = Annotated[
    float | None, typer.Option(metavar="HOURS", min=0, max=1_000_000, help="Only those of the last hours.")
]
Every = Annotated[bool, typer.Option("--all", help="All dead ones that the options leave, instead of ids.")]


@app.command("list")
def list_effects(
    status: Status = None,
    host: Host = None,
    event: Event = None,
    within: Hours = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many.")] = 50,
    tenant: Tenant = "main",
    url: Url = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List effects, the newest first.

    Example: headrace effects list --status dead
    """
    query = asked(tenant, status, event, within)
    found = working(url, data, lambda store: first(store, query, host, limit))
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    table = Table("id", "status", "made", "to", "workflow", "node", "tries", "last", box=None, pad_edge=False)
    for doc in found:
        texts = (doc["id"], doc["status"], doc["created"], doc["host"], doc["workflow"], doc["node"])
        table.add_row(
            *(plain(text) for text in texts),
            str(doc.get("tries", 0)),
            plain(last(doc)),
            style=STYLES.get(doc["status"], ""),
        )
    out().print(table if found else "There are none.")


@app.command()
def show(
    key: Annotated[str, typer.Argument(metavar="ID", help="The id of an effect.")],
    tenant: Tenant = "main",
    url: Url = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show one effect: what is sent, with secrets by name only, and what came of each attempt.

    Example: headrace effects show 0f3c8a54d1b2c6e79a8b4c5d6e7f8091
    """

    found = shown(the_one(url, data, "effect", key, tenant, "effect"))
    print_found(found, as_json, lambda: drawn(found))


@app.command()
def resend(
    keys: Keys = None,
    every: Every = False,
    host: Host = None,
    within: Hours = None,
    tenant: Tenant = "main",
    url: Url = None,
    data: Data = None,
) -> None:
    """Send effects again: they are due now, begin anew, and keep their keys.

    A receiver that had one knows it again by its key. A server has to run: it sends them within a second or so. Ends
    with 1 when one was not there.

    Example: headrace effects resend --all --host crm.example
    """
    do_all("resend", keys or [], every, asked(tenant, "dead", None, within), host, url, data)


@app.command()
def drop(
    keys: Keys = None,
    every: Every = False,
    host: Host = None,
    within: Hours = None,
    tenant: Tenant = "main",
    url: Url = None,
    data: Data = None,
) -> None:
    """Drop effects: nobody sends them any more. They stay in lists, as `dropped`.

    A call that is under way is not stopped. Ends with 1 when one was not there, or was sent already.

    Example: headrace effects drop 0f3c8a54d1b2c6e79a8b4c5d6e7f8091
    """
    do_all("drop", keys or [], every, asked(tenant, "dead", None, within), host, url, data)


def asked(tenant: str, status: str | None, event: str | None, hours: float | None) -> Query:
    """Return the question that the options ask; ends the command for a status that there is not."""
    if status is not None and status not in STATUSES:
        fail(f"There is no status {status!r}. {did_you_mean(status, STATUSES)}")
        raise typer.Exit(WRONG_USE)
    since = None if hours is None else datetime.now(UTC) - timedelta(hours=hours)
    return Query("effect", tenant, status=status, event=event, since=since, limit=PAGE)


async def each(store: Store, query: Query, host: str | None) -> AsyncIterator[Doc]:
    """Yield the effects that fit, newest first."""
    while True:
        page = await store.find(query)
        for doc in map(shown, page.items):
            if host is None or doc["host"] == host.lower():
                yield doc
        if page.cursor is None:
            return
        query = replace(query, cursor=page.cursor)


async def first(store: Store, query: Query, host: str | None, limit: int) -> list[Doc]:
    """Return the first effects that fit."""
    found: list[Doc] = []
    async for doc in each(store, query, host):
        found.append(doc)
        if len(found) == limit:
            break
    return found


def do_all(
    deed: Deed,
    keys: list[str],
    every: bool,
    query: Query,
    host: str | None,
    url: str | None,
    data: Path | None,
) -> None:
    """Send again or drop the effects that are named, or all dead ones that fit, and say what was done."""
    if bool(keys) == every:
        fail("Name effects by their ids, or say --all.")
        raise typer.Exit(WRONG_USE)

    async def work(store: Store) -> tuple[int, list[str]]:
        # Read whole first: what is done changes which ones fit.
        chosen = [doc["id"] async for doc in each(store, query, host)] if every else keys
        done, refused = 0, []
        for key in chosen:
            result = await do(store, deed, query.tenant, key)
            if isinstance(result, Refused):
                refused.append(f"{key}: {result.reason}")
            else:
                done += 1
        return done, refused

    done, refused = working(url, data, work)
    for line in refused:
        err().print(plain(line))
    say(f"{done} effects {'will be sent again' if deed == 'resend' else 'dropped'}.")
    if refused:
        raise typer.Exit(PROBLEMS)


def last(doc: Doc) -> str:
    """Return what came of the last attempt."""
    if doc.get("reason"):
        return str(doc["reason"])
    if not doc["attempts"]:
        return ""
    attempt = doc["attempts"][-1]
    return f"status {attempt['status']}" if "status" in attempt else str(attempt.get("error", ""))


def drawn(doc: Doc) -> Tree:
    """Return an effect as a tree."""
    style = STYLES.get(doc["status"], "")
    root = Tree(f"[bold]{doc['id']}[/] [{style}]{plain(doc['status'])}[/]", guide_style="dim")
    if doc.get("reason"):
        root.add(plain(doc["reason"]))
    root.add(f"made {doc['created']} by {plain(doc['workflow'])}, node {plain(doc['node'])}")
    root.add(f"event {doc['event']}, profile {plain(doc['profile'])}")
    if doc["status"] == "pending":
        root.add(f"due {doc['due']}")
    request = root.add(f"request to {plain(doc['host'])}")
    for name, value in doc["request"].items():
        request.add(f"{plain(name)}: {plain(json.dumps(value, ensure_ascii=False))}")
    attempts = root.add(f"{doc.get('tries', 0)} attempts")
    for attempt in doc["attempts"]:
        came = f"status {attempt['status']}" if "status" in attempt else attempt.get("error", "taken")
        attempts.add(f"{attempt['at']} {plain(came)} [dim]{attempt['ms']:.0f} ms[/]")
    if doc.get("response"):
        root.add(f"response {doc['response']['status']} {plain(doc['response']['text'])}")
    return root
