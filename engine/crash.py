"""Named places where a test may kill the process outright."""

import os
import signal

REQUEST_POINTS = (
    "store.claimed",
    "store.before_commit",
    "store.after_commit",
    "store.settled",
    "track.resolved",
    "track.ran",
    "track.committed",
    "track.answering",
)
"""On the way of a request; `store.claimed` and `store.settled` only in Elasticsearch's commit."""

IDENTITY_POINTS = ("identify.moved", "identify.merged")
"""Between two attempts of an event that says who it is about."""

WORKER_POINTS = (
    *("effects.claimed", "effects.sent", "effects.done"),
    *("timers.claimed", "timers.committed", "timers.done"),
    "schedule.some",
)
"""On the way of what is done beside requests."""

MERGE_POINTS = (
    "merge.frozen",
    "merge.folded",
    "merge.pointed",
    "merge.reowned",
    "unmerge.undone",
    "unmerge.restored",
)
"""On the way of two profiles that become one, and of one that becomes two."""

CRASH_POINTS = (*REQUEST_POINTS, *IDENTITY_POINTS, *WORKER_POINTS, *MERGE_POINTS)
"""Every name that `crash_point` is called with."""

_name = ""
_left = 0


def set_crash_point(setting: str) -> None:
    """Arm one crash point by the text of HEADRACE_CRASH_AT: `NAME`, `NAME:3` for the third time, "" for none.

    Raises ValueError for an unknown name or a count that is not a whole number above 0.
    """
    global _name, _left
    name, _, times = setting.partition(":")
    if name and name not in CRASH_POINTS:
        msg = f"HEADRACE_CRASH_AT: no crash point {name!r}. There are: {', '.join(CRASH_POINTS)}"
        raise ValueError(msg)
    if times and not (times.isascii() and times.isdigit() and int(times) > 0):
        msg = f"HEADRACE_CRASH_AT: {times!r} after {name!r} must be a whole number above 0, such as {name}:3"
        raise ValueError(msg)
    _name, _left = name, int(times or 1)


def crash_point(name: str) -> None:
    """Kill this process with SIGKILL when the point is armed and its time has come; else do nothing."""
    global _left  # noqa: PLW0603 - see set_crash_point
    if name != _name:
        return
    _left -= 1
    if _left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
