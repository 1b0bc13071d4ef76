"""The command `new`: begin a plugin."""

import keyword
import re
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from headrace.engine.catalog import find_plugins
from headrace.terminal import PROBLEMS, WRONG_USE, fail, plain, say

app = typer.Typer(add_completion=False, no_args_is_help=True)

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


@app.callback()
def new() -> None:
    """Begin something: a plugin."""


@app.command("plugin")
def new_plugin(
    name: Annotated[str, typer.Argument(help="The name that workflows write, such as score_order.")],
    folder: Annotated[Path, typer.Option(help="Where to write it.")] = Path(),
    package: Annotated[
        bool,
        typer.Option("--package", help="Write a package that can be installed beside Headrace, with a test."),
    ] = False,
) -> None:
    """Write a plugin that works, to begin with.

    Without --package it is one file, for the folder plugins/ of Headrace itself.

    Example: headrace new plugin score_order --package
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or len(name) > 64:
        fail(f"'{name}' cannot be a plugin's name: use small letters, digits and _, such as score_order.")
        raise typer.Exit(WRONG_USE)
    if name in (catalog := find_plugins()):
        fail(f"There is a plugin '{name}' already ({catalog[name].origin}). Choose another name.")
        raise typer.Exit(WRONG_USE)
    wanted = package_files(name) if package else {Path(f"{name}.py"): filled("plugin.py.txt", name)}
    taken = [file for file in wanted if (folder / file).exists()]
    if taken:
        fail(f"{folder / taken[0]} is there already. Nothing is ever written over.")
        raise typer.Exit(WRONG_USE)
    try:
        for file, text in wanted.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text, encoding="utf-8")
            say(f"  [green]wrote[/] {plain(folder / file)}")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
        raise typer.Exit(PROBLEMS) from None
    show_next(name, folder, package=package)


def package_files(name: str) -> dict[Path, str]:
    """Return the files of a package with one plugin, by their paths."""
    root, inner = Path(f"headrace-{name.replace('_', '-')}"), f"headrace_{name}"
    return {
        root / "pyproject.toml": filled("pyproject.toml.txt", name),
        root / inner / "__init__.py": f'"""The plugin {name} for Headrace."""\n',
        root / inner / f"{name}.py": filled("plugin.py.txt", name),
        root / "tests" / f"test_{name}.py": filled("test_plugin.py.txt", name),
    }


def filled(template: str, name: str) -> str:
    """Return a file of headrace/templates with the plugin's names in it."""
    text = (files("headrace") / "templates" / template).read_text(encoding="utf-8")
    names = {
        "CLASS": "".join(word.capitalize() for word in name.split("_")),
        "PACKAGE": f"headrace_{name}",
        "PROJECT": f"headrace-{name.replace('_', '-')}",
        "NAME": name,
    }
    return re.sub(r"CLASS|PACKAGE|PROJECT|NAME", lambda found: names[found[0]], text)


def show_next(name: str, folder: Path, *, package: bool) -> None:
    """Say what to do with the new files."""
    say("\n[bold]Next[/]")
    if package:
        root = plain(folder / f"headrace-{name.replace('_', '-')}")
        say(f"  pip install -e {root}     then `headrace plugins {name}` shows it")
        say(f"  pytest {root}             runs its examples")
    else:
        say(f"  Change {plain(folder / name)}.py; in plugins/ it is the plugin `{name}` at once,")
        say(f"  and `headrace plugins {name}` shows it. Its examples are its tests.")
