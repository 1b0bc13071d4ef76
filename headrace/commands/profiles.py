"""The command `profiles`: who is known."""

import json
from typing import Annotated, Any

import typer
from rich.tree import Tree

from headrace.commands.effects import Tenant, working
from headrace.commands.store import AsJson, Data, Url
from headrace.engine.identity.follow import find_living
from headrace.engine.model import Doc
from headrace.engine.store.protocol import Store
from headrace.engine.testing.expectation import shown
from headrace.terminal import WRONG_USE, fail, out, plain

app = typer.Typer(add_completion=False, no_args_is_help=True)

LONGEST = 200


@app.callback()
def profiles() -> None:
    """See who is known: profiles, and what was merged into them."""


ProfileId = Annotated[
    str, typer.Argument(metavar="ID", help="The id of a profile; one that was merged is known, too.")
]


@app.command()
def show(
    profile: ProfileId,
    tenant: Tenant = "main",
    url: Url = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show one profile: what is known of it, and which profiles were merged into it.

    Example: headrace profiles show 8c1f6f5e-2f1b-4c55-9a3e-0d6f1f0c2b7a
    """

    async def read(store: Store) -> Doc | None:
        return await find_living(store, tenant, profile)

    found = working(url, data, read)
    if found is None:
        fail(f"There is no profile {profile}.")
        raise typer.Exit(WRONG_USE)
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        out().print(drawn(found, profile))


def drawn(doc: Doc, asked: str) -> Tree:
    """Return a profile as a tree; `asked` is the id that it was asked for by."""
    root = Tree(f"[bold]{plain(doc['id'])}[/]", guide_style="dim")
    if asked != doc["id"]:
        root.add(f"[yellow]{plain(asked)} was merged into it[/]")
    for name, value in doc.items():
        if name in ("id", "tenant", "absorbed") or value in ({}, []):
            continue
        if not isinstance(value, dict):
            root.add(f"{plain(name)} {_value(value)}")
            continue
        branch = root.add(f"[bold]{plain(name)}[/]")
        for member, inner in value.items():
            branch.add(f"{plain(member)} {_value(inner)}")
    for one in doc.get("absorbed", ()):
        root.add(f"merged with {plain(one['id'])} {plain(one['at'])} by {plain(one['by'])}")
    return root


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else shown(value)
    return plain(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…")
