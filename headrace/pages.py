"""The reference pages that are generated from the program."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import typer

from headrace.api.openapi import http_reference
from headrace.cli import COMMANDS, app
from headrace.engine.catalog import find_plugins
from headrace.engine.files.reference import plugin_reference, problem_reference
from headrace.engine.language.library import FUNCTIONS
from headrace.engine.language.registry import Function
from headrace.engine.settings import settings_page
from headrace.terminal import EXIT_CODES

_GROUPS = {
    "times": "Times",
    "texts": "Texts",
    "numbers": "Numbers",
    "lists": "Lists and objects",
    "patterns": "Patterns",
    "queries": "Queries",
}


def functions_page() -> str:
    """Return the page of all functions of expressions and templates."""
    lines = [
        "# Functions",
        "",
        "What expressions and templates may call. Most are filters too: `x | name(…)` is `name(x, …)`.",
        "The example's value is shown as JSON.",
    ]
    for module, title in _GROUPS.items():
        found = [each for each in FUNCTIONS.values() if each.call.__module__.endswith(f".{module}")]
        lines += ["", f"## {title}", "", "| function | meaning | example | value |", "|---|---|---|---|"]
        lines += [_function_row(each) for each in sorted(found, key=lambda each: each.name)]
    return "\n".join(lines) + "\n"


def _function_row(function: Function) -> str:
    about = function.summary if function.is_filter else f"{function.summary} Not a filter."
    cells = (f"`{function.signature}`", about, f"`{function.example}`", f"`{function.result}`")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def commands_page() -> str:
    """Return the page of the command line."""
    root: Any = typer.main.get_command(app)
    context = typer.Context(root, info_name="headrace")
    commands: dict[str, Any] = {}
    for name in COMMANDS:
        commands |= dict(_commands(root.get_command(context, name), f"headrace {name}"))
    lines = [
        "# The command line",
        "",
        "`headrace` alone says how to begin. `headrace COMMAND --help` tells the same as here.",
    ]
    lines += ["", "| command | what it does |", "|---|---|"]
    for name, command in commands.items():
        lines.append(f"| [`{name}`](#{name.replace(' ', '-')}) | {command.help.partition(chr(10))[0]} |")
    lines += ["", "## Exit codes", "", "| code | meaning |", "|---|---|"]
    lines += [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    for name, command in commands.items():
        lines += _command_lines(name, command)
    return "\n".join(lines) + "\n"


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield a command with its name; of a group those in it."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
    else:
        for below, each in inner.items():
            yield from _commands(each, f"{name} {below}")


def _command_lines(name: str, command: Any) -> Iterator[str]:
    about, _, example = (command.help or "").partition("Example: ")
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
    usage = [name, *(_argument(each) for each in arguments), *(["[OPTIONS]"] if options else [])]
    yield from ("", f"## {name}", "", f"`{' '.join(usage)}`", "")
    yield from about.strip().splitlines()
    if example:
        yield from ("", "```sh", example.strip(), "```")
    if command.params:
        yield from ("", "| argument or option | meaning |", "|---|---|")
    for each in arguments:
        yield f"| `{_argument(each)}` | {each.help} |"
    for each in options:
        names = ", ".join(f"`{word}`" for word in (*each.opts, *each.secondary_opts))
        value = "" if each.is_flag else f" {_value_name(each)}".replace("|", "\\|")
        yield f"| {names}{value} | {each.help} |"


def _argument(argument: Any) -> str:
    name = (argument.metavar or argument.name).strip("[]")
    name = name if "." in name else name.upper()
    name += "…" if argument.nargs == -1 else ""
    return name if argument.required else f"[{name}]"


def _value_name(option: Any) -> str:
    if option.metavar:
        return str(option.metavar)
    kind = option.display_type(None).strip("<>")
    return {"path": "PATH", "str": "TEXT", "int": "NUMBER", "float range": "NUMBER"}.get(kind, str(kind))


PAGES: Final[dict[str, Callable[[], str]]] = {
    "cli.md": commands_page,
    "functions.md": functions_page,
    "http.md": http_reference,
    "plugins.md": lambda: plugin_reference(find_plugins()),
    "problems.md": problem_reference,
    "settings.md": settings_page,
}
"""What makes each page, by its file in docs/."""
