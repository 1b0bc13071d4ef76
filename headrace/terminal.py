"""Writing to the terminal: colours only where they are shown."""

import sys
from typing import Any, Final

from rich.console import Console
from rich.markup import escape

OK: Final = 0
PROBLEMS: Final = 1
WRONG_USE: Final = 2
CANNOT_START: Final = 3
INTERRUPTED: Final = 130

EXIT_CODES: Final = {
    OK: "all is well",
    PROBLEMS: "problems were found, or tests failed, or lines could not be imported",
    WRONG_USE: "the command was used in a wrong way",
    CANNOT_START: "it cannot start: workspace, settings, store or port",
    INTERRUPTED: "it was interrupted",
}
"""What each exit code means."""


def out() -> Console:
    """Return a console on standard output; a pipe gets no colours and no folded lines."""
    return _console(stderr=False)


def err() -> Console:
    """Return a console on standard error."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    # A line that a program reads must not be broken; a person's terminal decides for itself.
    width = None if stream.isatty() else 160
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=True)


def say(text: str = "", *, style: str = "") -> None:
    """Write a line of markup to standard output."""
    out().print(text, style=style or None)


def fail(text: object) -> None:
    """Write what went wrong to standard error; the text is shown as it is."""
    err().print(f"[bold red]Error:[/] {escape(str(text))}")


def plain(text: Any) -> str:
    """Return a text in which nothing is markup."""
    return escape(str(text))
