"""The engine's logger; how lines look is decided where the process starts."""

from typing import Any

import structlog


def logger() -> Any:
    """Return the logger of the engine."""
    return structlog.get_logger("headrace")
