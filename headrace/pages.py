"""The reference pages that are generated from the program."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import typer

from headrace.api.openapi import http_reference
from headrace.cli import COMMANDS, app
from headrace.engine.catalog import find_plugins
from headrace.engine.functions import FUNCTIONS
from headrace.engine.language.registry import Function
from headrace.engine.reference import plugin_reference, problem_reference
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
    lines = [
        "# The command line",
        "",
        "`headrace` alone says how to begin. `headrace COMMAND --help` shows the same as here.",
    ]
    lines += ["", "| command | what it does |", "|---|---|"]
    lines += [f"| [`headrace {name}`](#headrace-{name}) | {about} |" for name, about in COMMANDS.items()]
    lines += ["", "## Exit codes", "", "| code | meaning |", "|---|---|"]
    lines += [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    root: Any = typer.main.get_command(app)
    context = typer.Context(root, info_name="headrace")
    for name in COMMANDS:
        lines += _command_lines(f"headrace {name}", root.get_command(context, name))
    return "\n".join(lines) + "\n"


def _command_lines(name: str, command: Any) -> Iterator[str]:
    """Yield the part of one command; a group's commands stand in parts of their own."""
    inner = getattr(command, "commands", None)
    if inner is not None:
        for below, each in inner.items():
            yield from _command_lines(f"{name} {below}", each)
        return
    about, _, example = (command.help or "").partition("Example: ")
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
    usage = [name, *(_argument(each) for each in arguments), *(["[OPTIONS]"] if options else [])]
    # The summary of a group is that of its only command.
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
        value = "" if each.is_flag else f" {_value_name(each)}"
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
