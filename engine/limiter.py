"""Bounds how much a source may send in a time."""

import math
import time
from typing import TYPE_CHECKING

from headrace.engine.errors import InputError
from headrace.engine.files.source import Source

if TYPE_CHECKING:
    from limits.strategies import RateLimiter


class Limiter:
    """Counts the requests of sources that have a rate limit, in this process."""

    def __init__(self) -> None:
        self._window: RateLimiter | None = None

    def take(self, source: Source) -> None:
        """Count one request. Raises InputError (429), with the seconds to wait, when it is one too many."""
        window = self._window or self._open()
        if source.rate is None or window.hit(source.rate, source.tenant, source.id):
            return
        reset = window.get_window_stats(source.rate, source.tenant, source.id).reset_time
        wait = max(1, math.ceil(reset - time.time()))
        raise InputError(
            429, "rate_limit", f"The source may send {source.file.rate_limit}.", retry_after_seconds=wait
        )

    def _open(self) -> "RateLimiter":
        # Imported when the first source has a limit: it takes 150 ms.
        from limits.storage import MemoryStorage  # noqa: PLC0415
        from limits.strategies import MovingWindowRateLimiter  # noqa: PLC0415

        self._window = MovingWindowRateLimiter(MemoryStorage())
        return self._window
