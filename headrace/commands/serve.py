"""The command `serve`: run the server."""

from pathlib import Path
from typing import Annotated

import typer

from headrace.start import chosen_settings, run_server

app = typer.Typer(add_completion=False)

Workspace = Annotated[
    Path | None, typer.Argument(help="The workspace folder. Default: HEADRACE_WORKSPACE, else here.")
]
Port = Annotated[int | None, typer.Option(help="The port; 0 takes a free one. Default: 8080.")]
Host = Annotated[str | None, typer.Option(help="The address to listen on. Default: 127.0.0.1.")]
Data = Annotated[Path | None, typer.Option(help="The folder for what is written. Default: ./data.")]


@app.command()
def serve(workspace: Workspace = None, port: Port = None, host: Host = None, data: Data = None) -> None:
    """Run the server.

    Other settings are environment variables; `headrace config` shows them all. Starts with the files that are good,
    and says what is wrong with the others. Ends with 3 when it cannot start. Ctrl-C or SIGTERM stops it when
    requests under way are done; a second one stops it at once.

    Example: headrace serve workflows/shop --port 9000 --data /var/lib/headrace
    """
    run_server(chosen_settings(workspace, port=port, host=host, data=data), dev=False)
