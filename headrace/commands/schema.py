"""The command `schema`: write the JSON Schemas for editors."""

from pathlib import Path
from typing import Annotated

import typer

from headrace.compose import no_workspace
from headrace.engine.catalog import find_plugins
from headrace.engine.files.schemas import write_schemas
from headrace.terminal import PROBLEMS, WRONG_USE, fail, plain, say

app = typer.Typer(add_completion=False)


@app.command()
def schema(
    workspace: Annotated[
        Path, typer.Argument(envvar="HEADRACE_WORKSPACE", help="The workspace folder.")
    ] = Path(),
) -> None:
    """Write the JSON Schemas that give completion in an editor, into WORKSPACE/schema.

    Do it again after installing plugins or a new version. Files name theirs by "$schema".

    Example: headrace schema workflows/shop
    """
    if not (workspace / "sources.json").exists():
        fail(no_workspace(workspace))
        raise typer.Exit(WRONG_USE)
    try:
        written = write_schemas(workspace / "schema", find_plugins())
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
        raise typer.Exit(PROBLEMS) from None
    for file in written:
        say(f"[green]wrote[/] {plain(file)}")
