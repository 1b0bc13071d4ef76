"""The command `init`: write a small workspace that works."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import typer

from headrace.engine.catalog import find_plugins
from headrace.engine.files.schemas import write_schemas
from headrace.terminal import PROBLEMS, WRONG_USE, fail, plain, say

app = typer.Typer(add_completion=False)


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="A folder that is new or empty.")]) -> None:
    """Write a small workspace that works.

    It has one public source, one event type, one workflow with its tests, and the schemas for your editor.

    Example: headrace init shop
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        fail(f"{folder} is not empty. Name a new folder: nothing is ever written over.")
        raise typer.Exit(WRONG_USE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".gitignore").write_bytes((files("headrace") / "templates/gitignore.txt").read_bytes())
        written = [folder / ".gitignore", *copy_tree(files("headrace") / "starter", folder)]
        write_schemas(folder / "schema", find_plugins())
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
        raise typer.Exit(PROBLEMS) from None
    for file in written:
        say(f"  [green]wrote[/] {plain(file)}")
    say(f"  [green]wrote[/] {plain(folder / 'schema')}")
    say("\n[bold]Next[/]")
    for command, about in (
        ("dev", "run it; it prints a curl command to paste"),
        ("test", "run the tests of its workflow"),
        ("lint", "name every problem"),
    ):
        say(f"  headrace {command:<5}{plain(folder)}   {about}")
    say(
        f"Then change {plain(folder / 'workflows' / 'big_order.json')}: what you save is live within 2 seconds."
    )


def copy_tree(source: Traversable, folder: Path) -> list[Path]:
    """Write the files of a package's folder into another; return them, sorted."""
    written = []
    for entry in sorted(source.iterdir(), key=lambda entry: entry.name):
        target = folder / entry.name
        if entry.is_dir():
            target.mkdir()
            written += copy_tree(entry, target)
        else:
            target.write_bytes(entry.read_bytes())
            written.append(target)
    return written
