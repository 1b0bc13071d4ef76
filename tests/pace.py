"""Bounds on time that hold on a slow machine, too."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import process_time

from tests.makers import spared_collector

USUAL_SECONDS = 0.005
"""What `_usual_work` took where the bounds of the tests were set: CPython 3.11 on a quiet machine."""


class Took:
    """How long work took, in seconds of that machine: `seconds` is there when it is done."""

    seconds = float("inf")


@contextmanager
def timed() -> Iterator[Took]:
    """Take the process's own time for what is done here, and divide it by how much slower this machine is just now.

    It is looked at before and after: where another process takes the caches, or the half of a core, seconds count for
    less. The collector leaves alone what the suite has loaded, as the server does.
    """
    took = Took()
    with spared_collector():
        slowness = _slowness()
        began = process_time()
        yield took
        spent = process_time() - began
        took.seconds = spent / max(slowness, _slowness())


def least(call: Callable[[], object], enough: float, tries: int = 4) -> float:
    """Return the least time of several tries to do something, of one that is below `enough`: see `timed`.

    What another process takes in the middle of a try is none of the work's.
    """
    best = float("inf")
    while best >= enough and tries:
        tries -= 1
        with timed() as took:
            call()
        best = min(best, took.seconds)
    return best


def _slowness() -> float:
    """Return how many times as long as usual something usual takes, 1 at least."""
    began = process_time()
    _usual_work()
    return max((process_time() - began) / USUAL_SECONDS, 1.0)


def _usual_work() -> int:
    seen: dict[int, list[int | str]] = {}
    for number in range(20_000):
        seen[number & 1023] = [number, str(number)]
    return len(sorted(seen))
