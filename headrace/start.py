"""Starts the server, for `serve` and `dev`."""

import asyncio
from pathlib import Path

import typer

from headrace.api.logs import set_up_logs
from headrace.api.server import serve
from headrace.commands.lint import show_problems, summary
from headrace.compose import load_settings, make_engine, no_workspace
from headrace.engine.engine import Engine
from headrace.engine.errors import HeadraceError
from headrace.engine.secrets import without_password
from headrace.engine.settings import Settings
from headrace.engine.variables import SettingsError
from headrace.sample import curl_command, sample_event
from headrace.terminal import CANNOT_START, err, fail, plain


def chosen_settings(workspace: Path | None, **overrides: object) -> Settings:
    """Return the settings; ends the command when they cannot be used, or when there is no workspace."""
    try:
        settings = load_settings(workspace, **overrides)
    except SettingsError as error:
        raise cannot_start(error) from None
    for warning in settings.warnings:
        err().print(f"[yellow]Warning:[/] {plain(warning)}")
    if not (settings.workspace / "sources.json").exists():
        raise cannot_start(no_workspace(settings.workspace))
    return settings


def cannot_start(reason: object) -> typer.Exit:
    """Say why the server cannot start, and return what ends the command."""
    fail(reason)
    return typer.Exit(CANNOT_START)


def run_server(settings: Settings, *, dev: bool) -> None:
    """Run the server until it is stopped; ends the command with 3 when it cannot start."""
    set_up_logs(settings.log_format, settings.log_level)
    try:
        engine = make_engine(settings)
    except (HeadraceError, ValueError) as error:
        raise cannot_start(error) from None
    show_workspace(engine)
    try:
        code = serve(engine, settings, lambda address: show_ways(engine, address) if dev else None)
    except SettingsError as error:
        asyncio.run(engine.store.close())
        raise cannot_start(error) from None
    raise typer.Exit(code)


def reachable(address: str) -> str:
    """Return the address at which this machine reaches a server that listens on an address."""
    return address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def _token_place(settings: Settings) -> str:
    if settings.admin_token:
        return "as set"
    if settings.store.startswith("sqlite:"):
        return f"in {plain(settings.data / 'token')}"
    return "none, so nothing can be read: set HEADRACE_ADMIN_TOKEN"


def show_workspace(engine: Engine) -> None:
    """Write what is wrong with the files."""
    workspace, console = engine.workspace, err()
    if workspace.problems:
        problems = sorted(workspace.problems, key=lambda problem: problem.file)
        show_problems(workspace.path, problems, console)
        console.print(f"[bold]{plain(workspace.path)}[/] has {summary(problems)}; what is good runs.\n")


def show_ways(engine: Engine, address: str) -> None:
    """Write where things are, and how to try them."""
    address = reachable(address)
    workspace, settings, console = engine.workspace, engine.settings, err()
    lines = {
        "Server": f"{address}  [dim](documentation: {address}/docs)[/]",
        "Workspace": plain(workspace.path.resolve()),
        "Sources": ", ".join(plain(name) for name in workspace.sources) or "none",
        "Workflows": ", ".join(plain(each.name) for each in workspace.workflows) or "none",
        "Data": plain(settings.data.resolve()),
        "Store": plain(without_password(settings.store)),
        "Admin token": _token_place(settings),
    }
    for name, value in lines.items():
        console.print(f"[bold]{name:<12}[/] {value}")
    sample = sample_event(workspace)
    if sample is not None:
        console.print(
            f"\nSend an event, and see what happens to it:\n\n{plain(curl_command(address, sample))}\n"
        )
    console.print("Files are watched: change a workflow, and the next event shows it. Ctrl-C ends.\n")
