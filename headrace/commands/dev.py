"""The command `dev`: run the server for development."""

import os

import typer

from headrace.commands.serve import Data, Host, Port, Workspace
from headrace.start import chosen_settings, run_server

app = typer.Typer(add_completion=False)


@app.command()
def dev(workspace: Workspace = None, port: Port = None, host: Host = None, data: Data = None) -> None:
    """Run the server for development.

    As `serve`, with the debugger on for every source and logs to read. Prints a curl command that sends an event.

    Example: headrace dev workflows/shop
    """
    log_format = os.environ.get("HEADRACE_LOG_FORMAT") or "console"
    settings = chosen_settings(
        workspace, port=port, host=host, data=data, debugger=True, log_format=log_format
    )
    run_server(settings, dev=True)
