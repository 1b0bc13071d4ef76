"""The command `plugins`: list the plugins, or show one."""

import json
from typing import Annotated

import typer
from rich.markdown import Markdown
from rich.table import Table

from headrace.engine.catalog import BUILT_IN, PluginInfo, find_plugins
from headrace.engine.files.reference import plugin_page
from headrace.engine.suggest import did_you_mean
from headrace.terminal import WRONG_USE, err, fail, out, plain, say

app = typer.Typer(add_completion=False)


@app.command()
def plugins(
    name: Annotated[str | None, typer.Argument(help="Show this plugin in full.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="As JSON, with the schemas of the configs.")
    ] = False,
) -> None:
    """List the plugins, or show one in full: its config, ports and examples.

    Example: headrace plugins branch
    """
    catalog = find_plugins()
    for problem in catalog.problems:
        err().print(f"[yellow]Warning:[/] {plain(problem)}")
    if name is not None and name not in catalog:
        fail(f"There is no plugin '{name}'. {did_you_mean(name, catalog)}")
        raise typer.Exit(WRONG_USE)
    chosen = list(catalog.values()) if name is None else [catalog[name]]
    if as_json:
        typer.echo(json.dumps([about(info) for info in chosen], indent=2, ensure_ascii=False))
    elif name is not None:
        show_page(chosen[0])
    else:
        show_table(chosen)


def about(info: PluginInfo) -> dict[str, object]:
    """Return what a program wants to know of a plugin."""
    return {
        "name": info.name,
        "summary": info.summary,
        "origin": info.origin,
        "ports": dict(info.ports),
        "ports_vary": info.ports_vary,
        "uses": sorted(info.uses),
        "config": info.config_schema(),
    }


def show_page(info: PluginInfo) -> None:
    """Write one plugin's page: drawn for a person, Markdown for a pipe."""
    text = "\n".join(plugin_page(info))
    if out().is_terminal:
        out().print(Markdown(text))
    else:
        typer.echo(text)


def show_table(chosen: list[PluginInfo]) -> None:
    """Write a line for each plugin."""
    table = Table("plugin", "what it is for", "ports", "from", box=None, pad_edge=False)
    for info in chosen:
        ports = ", ".join(info.ports) + (" …" if info.ports_vary else "")
        origin = "" if info.origin == BUILT_IN else plain(info.origin)
        table.add_row(f"[bold]{plain(info.name)}[/]", plain(info.summary), f"[cyan]{plain(ports)}[/]", origin)
    out().print(table)
    say(f"\n{len(chosen)} plugins. [bold]headrace plugins NAME[/] shows one in full.")
