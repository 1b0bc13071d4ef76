"""Starts the server, for `serve` and `dev`."""

import errno
import socket
from pathlib import Path

import typer

from headrace.api.logs import set_up_logs
from headrace.commands.lint import show_problems, summary
from headrace.compose import load_settings, make_engine
from headrace.engine.engine import Engine
from headrace.engine.errors import StoreRefused, WorkspaceError
from headrace.engine.settings import Settings, SettingsError
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


def no_workspace(path: Path) -> str:
    """Return what to do when a folder is no workspace."""
    place = "This folder" if path == Path() else f"{path}"
    problem = f"{place} is no workspace: there is no sources.json in it."
    return (
        f"{problem}\n"
        "  Name one:        headrace dev DIR, or set HEADRACE_WORKSPACE\n"
        "  Or write one:    headrace init DIR"
    )


def cannot_start(reason: object) -> typer.Exit:
    """Say why the server cannot start, and return what ends the command."""
    fail(reason)
    return typer.Exit(CANNOT_START)


def run_server(settings: Settings, *, dev: bool) -> None:
    """Run the server until it is stopped; ends the command with 3 when it cannot start."""
    set_up_logs(settings.log_format, settings.log_level)
    check_port(settings)
    try:
        engine = make_engine(settings)
    except (WorkspaceError, StoreRefused, ValueError) as error:
        raise cannot_start(error) from None
    show_start(engine, dev=dev)
    # Takes half a second, which a start that is refused does not need.
    from headrace.api.server import serve  # noqa: PLC0415

    serve(engine, settings)


def check_port(settings: Settings) -> None:
    """End the command when the address cannot be listened on."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, place = found[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(place)
    except socket.gaierror:
        raise cannot_start(f"HEADRACE_HOST={settings.host}: there is no such address.") from None
    except PermissionError:
        message = f"Port {settings.port} may not be used by this user. Take one above 1023: --port 8080"
        raise cannot_start(message) from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            message = (
                f"Port {settings.port} on {settings.host} is in use. "
                f"Stop what listens there, or take another: --port {settings.port + 1}"
            )
        else:
            message = f"{settings.host}:{settings.port} cannot be listened on: {error.strerror}"
        raise cannot_start(message) from None


def address_of(settings: Settings) -> str:
    """Return the address at which this machine reaches the server."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104 - only compared
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"http://{host}:{settings.port}"


def show_start(engine: Engine, *, dev: bool) -> None:
    """Write what was found, and with `dev` how to try it."""
    workspace, settings, console = engine.workspace, engine.settings, err()
    if workspace.problems:
        problems = sorted(workspace.problems, key=lambda problem: problem.file)
        show_problems(workspace.path, problems, console)
        console.print(f"[bold]{plain(workspace.path)}[/] has {summary(problems)}; what is good runs.\n")
    if not dev:
        return
    address = address_of(settings)
    lines = {
        "Server": f"{address}  [dim](documentation: {address}/docs)[/]",
        "Workspace": plain(workspace.path.resolve()),
        "Sources": ", ".join(plain(name) for name in workspace.sources) or "none",
        "Workflows": ", ".join(plain(each.name) for each in workspace.workflows) or "none",
        "Data": plain(settings.data.resolve()),
        "Admin token": "as set" if settings.admin_token else f"in {plain(settings.data / 'token')}",
    }
    for name, value in lines.items():
        console.print(f"[bold]{name:<12}[/] {value}")
    sample = sample_event(workspace)
    if sample is not None:
        console.print(
            f"\nSend an event, and see what happens to it:\n\n{plain(curl_command(address, sample))}\n"
        )
    console.print("Files are watched: change a workflow, and the next event shows it. Ctrl-C ends.")
