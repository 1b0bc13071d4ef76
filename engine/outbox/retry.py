"""What an attempt means: sent, again later, or never."""

import random
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Literal

import msgspec

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 4 * 3600.0
"""How long to wait after the first attempt, twice as long after each further one, and no longer than this."""

LONGEST_ASKED_SECONDS = 24 * 3600.0
"""How long a receiver may ask to be left alone by `Retry-After`."""

AGAIN = frozenset((408, 409, 425, 429))
"""Statuses of the 4xx kind that may be another one later; all from 500 on may, too."""

BUSY = frozenset((429, 503))
"""Statuses that say of the whole host, not of this call, that it wants to be left alone."""

Verdict = Literal["sent", "again", "dead"]


class Outcome(msgspec.Struct, frozen=True):
    """What one attempt brought: a status, or the error when there was none; how long it took.

    `wait` are the seconds that the receiver asked for, or None. `down` says that the host is to blame, not the call.
    """

    verdict: Verdict
    ms: float
    status: int | None = None
    error: str = ""
    body: str = ""
    wait: float | None = None
    down: bool = False


def judge(status: int) -> Verdict:
    """Say what a status means: 2xx sent; 408, 409, 425, 429 and 5xx again; all others never."""
    if 200 <= status < 300:
        return "sent"
    return "again" if status in AGAIN or status >= 500 else "dead"


def backoff(tries: int, dice: random.Random) -> float:
    """Return how many seconds to wait after so many attempts: twice as long each time, shortened by up to half."""
    longest = min(FIRST_SECONDS * 2.0 ** min(tries - 1, 30), LONGEST_SECONDS)
    return longest * dice.uniform(0.5, 1.0)


def asked_wait(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds that `Retry-After` asks for, at most a day; None when there is none that can be read."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        seconds = float(text) if text.isdigit() else (parsedate_to_datetime(text) - now).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_ASKED_SECONDS)
