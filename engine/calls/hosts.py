"""Which hosts inline calls wait for, and how many at a time."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from headrace.engine.errors import CallError
from headrace.engine.outbox.breaker import Breaker

LONGEST_SECONDS = 10.0
"""How long a host that does not answer is left alone: an event waits for nobody, so that it should not be long."""


class _Host:
    __slots__ = ("breaker", "waiting")

    def __init__(self) -> None:
        # The dice only spread probes.
        self.breaker = Breaker(random.Random(), LONGEST_SECONDS)  # noqa: S311
        self.waiting = 0


class Hosts:
    """The hosts that are called. One that hangs holds no more events than `most`, and soon none."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._hosts: dict[str, _Host] = {}

    @contextmanager
    def entered(self, place: str) -> Iterator[None]:
        """Let a call to a host and port go; what it raises tells how the host is.

        Raises CallError when too many wait for it already, or it did not answer lately.
        """
        host = self._hosts.setdefault(place, _Host())
        room = host.breaker.room(self._most, perf_counter())
        if host.waiting >= room:
            why = "did not answer lately" if room < self._most else f"keeps {host.waiting} calls waiting"
            raise CallError(f"{place} {why}; this call was not made", retryable=True)
        host.waiting += 1
        try:
            yield
        except CallError as error:
            if error.retryable:
                host.breaker.failed(perf_counter())
            raise
        else:
            host.breaker.succeeded()
        finally:
            host.waiting -= 1
            if not host.waiting and host.breaker.is_well:
                # Nothing is known of it that is not so of every other.
                del self._hosts[place]
