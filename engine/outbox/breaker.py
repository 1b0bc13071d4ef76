"""Leaves a host alone for a while that fails again and again."""

import random

FAILURES = 5
"""So many failures in a row open it."""

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 60.0
"""How long it stays open, twice as long each time that the probe fails."""


class Breaker:
    """Closed: all may go. Open: nothing may. Then half open: one goes, and decides. Times are of a clock in seconds."""

    __slots__ = ("_dice", "_failures", "_longest", "_pause", "until")

    def __init__(self, dice: random.Random, longest: float = LONGEST_SECONDS) -> None:
        self._dice = dice
        self._longest = longest
        self._failures = 0
        self._pause = 0.0
        self.until = 0.0

    @property
    def is_closed(self) -> bool:
        """Say whether the last word of the host was not that it is down."""
        return self._pause == 0.0

    @property
    def is_well(self) -> bool:
        """Say whether the host never failed since it last worked."""
        return self._failures == 0

    def room(self, usual: int, now: float) -> int:
        """Return how many may be under way at a time."""
        if now < self.until:
            return 0
        return usual if self.is_closed else 1

    def succeeded(self) -> None:
        """Note that the host works."""
        self._failures, self._pause = 0, 0.0

    def failed(self, now: float) -> None:
        """Note that the host did not work."""
        self._failures += 1
        if self._failures < FAILURES and self.is_closed:
            return
        # Those that were under way with the probe say nothing new.
        if now < self.until:
            return
        self._pause = min(max(self._pause * 2, FIRST_SECONDS), self._longest)
        self.until = now + self._pause * self._dice.uniform(0.75, 1.25)

    def hold(self, seconds: float, now: float) -> None:
        """Leave the host alone for as long as it asked."""
        self.until = max(self.until, now + seconds)
