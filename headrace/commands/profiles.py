"""The command `profiles`: who is known."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.tree import Tree

from headrace.commands.effects import Tenant
from headrace.commands.run import open_workspace
from headrace.commands.store import AsJson, Data, Url
from headrace.engine.identity import person
from headrace.engine.identity.follow import find_living
from headrace.engine.identity.merge import Folded, Merging, Refused, preview, reown
from headrace.engine.identity.unmerge import unmerge as take_apart
from headrace.engine.locks import Locks
from headrace.engine.model import Doc
from headrace.engine.store.protocol import Store
from headrace.engine.testing.expectation import shown
from headrace.exporting import counted, write_export
from headrace.merging import result_doc, result_table
from headrace.stored import print_found, there, working
from headrace.terminal import CANNOT_START, WRONG_USE, err, fail, out, plain, say

app = typer.Typer(add_completion=False, no_args_is_help=True)

LONGEST = 200


@app.callback()
def profiles() -> None:
    """See who is known, make one profile of two or two of one, give out or erase all of a person."""


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
    doc = there(found, f"profile {profile}")
    print_found(doc, as_json, lambda: drawn(doc, profile))


BY = "command line"
"""What the record of a merge by this command says."""

MOST_WAITERS = 100


@app.command()
def merge(
    profile: ProfileId,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The id of the other profile.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; only show what would come of it.")
    ] = False,
    workspace: Annotated[
        str | None, typer.Option(metavar="DIR", help="The workspace, whose strategies decide.")
    ] = None,
    tenant: Tenant = "main",
    url: Url = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Make one profile of two that are one person, and show what became of each field.

    The older one lives on, and the id of the other finds it from now on. The workspace's `merge` says how fields become
    one; by default the value that was written last stays, numbers that count are added, and lists are joined. Events
    and sessions are given to the one that lives on. A server may run meanwhile. It can be undone: headrace profiles
    unmerge. Ends with 2 when there is nothing to merge.

    Example: headrace profiles merge --dry-run 8c1f6f5e-2f1b-4c55-9a3e-0d6f1f0c2b7a 5d0b6c1e-77d1-4a06-8f54-9a1f4f0b9f10
    """
    rules = open_workspace(workspace).merge_rules

    async def work(store: Store) -> tuple[Folded | Refused, int]:
        folded = await preview(store, tenant, profile, other, rules)
        if dry_run or isinstance(folded, Refused):
            return folded, 0
        await Merging(store, Locks(MOST_WAITERS)).merge(tenant, profile, other, BY, rules)
        return folded, await reown(store, tenant, folded.loser["id"])

    folded, moved = working(url, data, work)
    if isinstance(folded, Refused):
        fail(folded.reason)
        raise typer.Exit(WRONG_USE)
    if as_json:
        typer.echo(json.dumps(result_doc(folded), indent=2, ensure_ascii=False))
    else:
        tell_merge(folded, None if dry_run else moved)


def tell_merge(folded: Folded, moved: int | None) -> None:
    """Say what came of a merge, or what would; `moved` None: nothing was done."""
    survivor, loser = plain(folded.survivor["id"]), plain(folded.loser["id"])
    words = "would be" if moved is None else "is"
    say(f"[bold]{loser}[/] {words} merged into the older [bold]{survivor}[/]:")
    out().print(result_table(folded))
    if moved is not None:
        say(f"{moved} events, sessions and timers were given to it.")


@app.command()
def unmerge(
    profile: Annotated[str, typer.Argument(metavar="ID", help="The id of a profile that was merged.")],
    tenant: Tenant = "main",
    url: Url = None,
    data: Data = None,
) -> None:
    """Take a profile out of the one that it was merged into.

    What nobody wrote since is as it was before, and what came since stays where it is. The profile gets its events,
    sessions and timers back, and the two are never merged again but by your word. Where the other one was merged on
    since, un-merge that one first. A server may run meanwhile. Ends with 2 when it was not merged.

    Example: headrace profiles unmerge 5d0b6c1e-77d1-4a06-8f54-9a1f4f0b9f10
    """
    done = working(url, data, lambda store: take_apart(store, Locks(MOST_WAITERS), tenant, profile))
    if isinstance(done, Refused):
        fail(done.reason)
        raise typer.Exit(WRONG_USE)
    say(f"[bold]{plain(done.profile)}[/] is a profile of its own again, apart from {plain(done.survivor)}.")


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


@app.command("export")
def export_person(
    profile: ProfileId,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file to write. Without it: standard output.")
    ] = None,
    tenant: Tenant = "main",
    url: Url = None,
    data: Data = None,
) -> None:
    """Write all that is kept of a person, by any id that they ever had: lines of JSON, each with `kind` and `doc`.

    The profile comes first, then what was merged into it, events, sessions, claims, failed events, effects, timers,
    traces. Only its owner may read the file. Ends with 2 when there is no such profile.

    Example: headrace profiles export 8c1f6f5e-2f1b-4c55-9a3e-0d6f1f0c2b7a --output person.ndjson
    """
    try:
        with err().status("reading") as status:

            def tell(counts: Counter[str]) -> None:
                status.update(f"{counted(counts)}")

            counts = working(
                url, data, lambda store: write_export(person.export(store, tenant, profile), output, tell)
            )
    except OSError as error:
        fail(f"{output}: {error.strerror}")
        raise typer.Exit(CANNOT_START) from None
    there(counts or None, f"profile {profile}")
    if output is not None:
        say(f"{counted(counts)}: [bold]{plain(output)}[/]")


@app.command("erase")
def erase_person(
    profile: ProfileId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before.")] = False,
    tenant: Tenant = "main",
    url: Url = None,
    data: Data = None,
) -> None:
    """Erase a person, by any id that they ever had: the profile, what was merged into it, and all that belongs to them.

    It cannot be undone: export first what is still wanted. A server may run meanwhile. Backups, logs and what was sent
    to others are yours to look after. Ends with 2 when there is no such profile.

    Example: headrace profiles erase 8c1f6f5e-2f1b-4c55-9a3e-0d6f1f0c2b7a --yes
    """
    ids = working(url, data, lambda store: person.ids_of(store, tenant, profile))
    if not yes:
        err().print(f"Ids of this person: {', '.join(map(plain, ids))}")
        if not sys.stdin.isatty():
            fail("There is nobody to ask: say --yes.")
            raise typer.Exit(WRONG_USE)
        typer.confirm("Erase all that is kept of them?", abort=True, err=True)
    with err().status("erasing"):
        gone = working(url, data, lambda store: person.erase(store, tenant, profile))
    there(gone if any(gone.values()) else None, f"profile {profile}")
    say(f"Erased: {counted(gone)}.")
