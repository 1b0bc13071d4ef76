"""Logs: one JSON object a line, or text to read."""

import io
import logging
import sys
import time
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import structlog

Line = MutableMapping[str, Any]

# Local variables hold what clients sent.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)
_OURS: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def set_up_logs(style: Literal["json", "console"], level: str) -> None:
    """Send our lines and those of libraries to stderr in one form, from a level up."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_OURS,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_OURS, structlog.stdlib.ExtraAdder(), _without_colour],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_shown(style)],
        )
    )
    root = logging.getLogger()
    root.handlers = [output]
    root.setLevel(_LEVELS[level])
    # uvicorn says at info what we say ourselves, and warns of every broken request; Elasticsearch's client has a line
    # for each request to the cluster.
    for name in ("uvicorn.error", "elastic_transport"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _shown(style: Literal["json", "console"]) -> list[Any]:
    """Return what makes a line of text from a line of members."""
    if style == "json":
        return [_TRACEBACKS, structlog.processors.JSONRenderer()]
    colors = sys.stderr.isatty()
    return [_without_control, structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=_traceback)]


def _without_control(_logger: object, _method: str, line: Line) -> Line:
    """Escape what would move the cursor, begin a line or hide text; JSON does so by itself."""
    for name, value in line.items():
        if isinstance(value, str):
            line[name] = visible(value)
    return line


def visible(text: str) -> str:
    """Return a text in which every character can be seen: others, but tabs, are written as escapes."""
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() or sign == "\t" else sign.encode("unicode_escape").decode()
        for sign in text
    )


def _traceback(output: TextIO, raised: Any) -> None:
    """Write a traceback, indented: no line of it can pass for one of the log."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, raised)
    output.write("\n" + "\n".join("  " + visible(line) for line in text.getvalue().split("\n") if line))


def _without_colour(_logger: object, _method: str, line: Line) -> Line:
    """Take out what uvicorn says twice, once with colours."""
    line.pop("color_message", None)
    return line


class Refusals:
    """Logs refused requests at `warning`, but at most `per_second`; then says how many it left out."""

    def __init__(self, per_second: int = 10) -> None:
        self._log = structlog.stdlib.get_logger("headrace.doors")
        self._per_second = per_second
        self._second = 0
        self._said = 0
        self._left_out = 0

    def note(self, request_id: str, door: str, status: int, code: str, reason: str = "") -> None:
        """Note one refusal, by its code only: what the client sent is not for logs. `reason` is one of ours."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._said = second, 0
        if self._said >= self._per_second:
            self._left_out += 1
            return
        self._said += 1
        more: dict[str, object] = {"reason": reason} if reason else {}
        if self._left_out:
            more["left_out"], self._left_out = self._left_out, 0
        self._log.warning("refused", request=request_id, door=door, status=status, code=code, **more)
