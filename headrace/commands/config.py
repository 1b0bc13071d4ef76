"""The command `config`: show every setting and where it came from."""

import json
import os
from typing import Annotated

import typer
from rich.table import Table

from headrace.engine.settings import Settings
from headrace.terminal import err, out, plain, say

app = typer.Typer(add_completion=False)


@app.command()
def config(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Show every setting, its value and where it came from.

    Secrets are hidden. Ends with 3 when a setting cannot be used, and says which.

    Example: HEADRACE_PORT=9000 headrace config
    """
    settings = Settings.load(os.environ)
    if as_json:
        typer.echo(json.dumps([origin._asdict() for origin in settings.origins()], indent=2))
    else:
        table = Table("variable", "value", "from", box=None, pad_edge=False)
        for origin in settings.origins():
            style = "" if origin.source == "default" else "bold"
            table.add_row(origin.variable, plain(origin.value), plain(origin.source), style=style)
        out().print(table)
        say("\n[dim]docs/settings.md says what each means.[/]")
    for warning in settings.warnings:
        err().print(f"[yellow]Warning:[/] {plain(warning)}")
