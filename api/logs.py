"""Logs: one JSON object a line, or text to read."""

import logging
import sys
import time
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal

import structlog

Line = MutableMapping[str, Any]

# Local variables hold what clients sent.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def set_up_logs(style: Literal["json", "console"], level: str) -> None:
    """Send our lines and those of libraries to stderr in one form, from a level up."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
        # uvicorn repeats its message with colours.
        _without_colour,
    ]
    if style == "json":
        shown: list[Any] = [_TRACEBACKS, structlog.processors.JSONRenderer()]
    else:
        shown = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared[:4],
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *shown],
        )
    )
    root = logging.getLogger()
    root.handlers = [output]
    root.setLevel(_LEVELS[level])
    # Watching files is talkative; uvicorn says at info what we say ourselves.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").setLevel(max(_LEVELS[level], logging.WARNING))


def _without_colour(_logger: object, _method: str, line: Line) -> Line:
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

    def note(self, request_id: str, door: str, status: int, code: str) -> None:
        """Note one refusal, by its code only: what the client sent is not for logs."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._said = second, 0
        if self._said >= self._per_second:
            self._left_out += 1
            return
        self._said += 1
        more: Mapping[str, int] = {"left_out": self._left_out} if self._left_out else {}
        self._left_out = 0
        self._log.warning("refused", request=request_id, door=door, status=status, code=code, **more)
