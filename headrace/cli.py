"""The command line: which commands there are, and how errors end them."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from headrace import __version__
from headrace.engine.errors import HeadraceError
from headrace.terminal import CANNOT_START, EXIT_CODES, fail, say

COMMANDS: Final = {
    "dev": "Run the server for development: debugger on, logs to read.",
    "serve": "Run the server.",
    "init": "Write a small workspace that works.",
    "lint": "Name every problem in workspaces.",
    "test": "Run the tests of workflows.",
    "run": "Run one event through a workspace, and draw what happened.",
    "replay": "Run stored events against a draft, and say what differs.",
    "story": "Tell what happened to an event.",
    "plugins": "List the plugins, or show one.",
    "new": "Begin something: a plugin.",
    "schema": "Write the JSON Schemas that give completion in an editor.",
    "docs": "Write the reference pages.",
    "events": "Bring events in from a file.",
    "effects": "See what is sent, send it again, or drop it.",
    "segments": "See who is in which segment and why, or ask all profiles again.",
    "failed": "See which events were refused, mend them, and send them again.",
    "timers": "See which runs wait and which waited, or cancel one.",
    "profiles": "See who is known; merge, take apart, export or erase people.",
    "store": "Check, copy and migrate what is kept.",
    "config": "Show every setting, its value and where it came from.",
}
"""Every command and what it does; each is the `app` of the module of its name in headrace/commands."""

FIRST_STEPS = """\
[bold]Headrace[/] {version} takes events and runs them through workflows that you write as JSON files.

{begin}

[bold]Commands[/]
{commands}

[bold]headrace COMMAND --help[/] tells more about one, [bold]headrace --help[/] the exit codes."""

BEGIN = """\
[bold]Begin[/]
  headrace init shop      write a small workspace that works
  headrace dev shop       run it; it prints a curl command to paste
  headrace test shop      run the tests of its workflows"""

GO_ON = """\
[bold]This folder is a workspace[/]
  headrace dev       run it; it prints a curl command to paste
  headrace lint      name every problem
  headrace test      run the tests of its workflows"""

EPILOG = "Exit codes: " + " · ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())


def tidy(command: Any) -> None:
    """Make the help of a command good to read: lines as the terminal breaks them, and no value for a flag."""
    paragraphs = (command.help or "").split("\n\n")
    command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for parameter in command.get_params(typer.Context(command)):
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    for inner in getattr(command, "commands", {}).values():
        tidy(inner)


class Commands(TyperGroup):
    """Imports a command's module only when it is needed: `headrace --version` needs none."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.commands: Any = dict.fromkeys(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - the signature is typer's
        """Return the command of a name, or None."""
        if cmd_name not in COMMANDS:
            return None
        if self.commands[cmd_name] is None:
            module = import_module(f"headrace.commands.{cmd_name}")
            self.commands[cmd_name] = command = typer.main.get_command(module.app)
            command.name = cmd_name
            tidy(command)
        return self.commands[cmd_name]

    def get_help(self, ctx: Any) -> Any:
        """Return the help of `headrace` itself."""
        for parameter in self.get_params(ctx):
            parameter.metavar = "" if getattr(parameter, "is_flag", False) else parameter.metavar
        return super().get_help(ctx)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an error of ours ends it with a sentence, not a traceback."""
        try:
            return super().invoke(ctx)
        except HeadraceError as error:
            fail(error)
            raise typer.Exit(CANNOT_START) from None


app = typer.Typer(
    cls=Commands, name="headrace", epilog=EPILOG, invoke_without_command=True, pretty_exceptions_enable=False
)


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"headrace {__version__}")
        raise typer.Exit


@app.callback()
def headrace(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - the option's callback does the work
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Headrace takes events and runs them through workflows that you write as JSON files."""
    if context.invoked_subcommand is None:
        lines = "\n".join(f"  {name:<8} {about}" for name, about in COMMANDS.items())
        begin = GO_ON if Path("sources.json").is_file() else BEGIN
        say(FIRST_STEPS.format(version=__version__, begin=begin, commands=lines))


def main() -> None:
    """Run the command line; the entry point `headrace`."""
    app(prog_name="headrace")
