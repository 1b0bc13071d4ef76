"""The command `docs`: write the reference pages."""

from pathlib import Path
from typing import Annotated

import typer

from headrace.pages import PAGES
from headrace.terminal import PROBLEMS, fail, plain, say

app = typer.Typer(add_completion=False)


@app.command()
def docs(
    folder: Annotated[Path, typer.Option(help="Where the pages are.")] = Path("docs"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; end with 1 when a page is old.")
    ] = False,
) -> None:
    """Write the reference pages: command line, functions, HTTP, plugins, problems, settings.

    They are made from the program and from the plugins that are installed, so that they cannot be wrong.

    Example: headrace docs --check
    """
    old = [name for name, make in PAGES.items() if current(folder / name) != make()]
    if check:
        for name in old:
            fail(f"{folder / name} is not what the program says.")
        if old:
            command = "headrace docs" if folder == Path("docs") else f"headrace docs --folder {folder}"
            say(f"Write the pages anew: [bold]{plain(command)}[/]")
            raise typer.Exit(PROBLEMS)
        say(f"{len(PAGES)} pages are as the program says.")
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in old:
            (folder / name).write_text(PAGES[name](), encoding="utf-8")
            say(f"[green]wrote[/] {plain(folder / name)}")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
        raise typer.Exit(PROBLEMS) from None
    if not old:
        say("Every page was right already.")


def current(file: Path) -> str:
    """Return a page as it is, "" when it is not there."""
    return file.read_text(encoding="utf-8") if file.is_file() else ""
