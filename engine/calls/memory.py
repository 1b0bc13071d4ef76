"""Answers of inline calls, remembered for a request that runs again."""

from collections import OrderedDict
from time import perf_counter
from typing import NamedTuple

from headrace.engine.calls.client import Reply
from headrace.engine.errors import CallError

MOST_ANSWERS = 10_000
MOST_BYTES = 16 << 20
SECONDS = 60.0
"""How long an answer is remembered: a request runs again at once, or is sent again soon after a 503."""
OWN_BYTES = 500
"""About what an answer takes besides its body and headers."""


class _Kept(NamedTuple):
    what: Reply | CallError
    until: float
    size: int
    request: float


class Memory:
    """What calls brought, by their keys; the oldest are forgotten first. Bounded by count, bytes and time."""

    def __init__(
        self, most: int = MOST_ANSWERS, most_bytes: int = MOST_BYTES, seconds: float = SECONDS
    ) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, key: str, request: float) -> Reply | CallError | None:
        """Return what a call brought; a failure only to the request (any number that is its own) that met it."""
        kept = self._kept.get(key)
        if kept is None or (isinstance(kept.what, CallError) and kept.request != request):
            return None
        return kept.what if kept.until > perf_counter() else None

    def keep(self, key: str, what: Reply | CallError, request: float) -> None:
        """Remember what a call brought."""
        now = perf_counter()
        self._forget(key)
        kept = _Kept(what, now + self._seconds, _size(what), request)
        self._kept[key] = kept
        self._bytes += kept.size
        while self._kept:
            oldest = next(iter(self._kept))
            is_full = len(self._kept) > self._most or self._bytes > self._most_bytes
            if not is_full and self._kept[oldest].until > now:
                return
            self._forget(oldest)

    def _forget(self, key: str) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._bytes -= kept.size


def _size(what: Reply | CallError) -> int:
    if isinstance(what, CallError):
        return OWN_BYTES + len(what.reason)
    return OWN_BYTES + len(what.body) + sum(len(name) + len(value) for name, value in what.headers.items())
