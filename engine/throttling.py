"""Who passes a throttle: at most so many in any period."""

from datetime import datetime, timedelta
from typing import Any, Final

from headrace.engine.errors import NodeError
from headrace.engine.model import Doc

MEMBER: Final = "throttles"
"""Where a profile keeps who passed; absent until somebody did. By name: `{"longest": ms, "passed": {key: [ms, …]}}`,
times in milliseconds since 1970, oldest first, and the longest period that anybody asked about."""

MOST_PASSES: Final = 100
"""The largest number that may be allowed in a period; each is remembered."""

MOST_KEYS: Final = 100
"""Keys of one name that a profile remembers at the same time."""

LONGEST_KEY: Final = 200

_MILLISECOND: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def after_pass(
    profile: Doc | None, name: str, key: str, at_most: int, period: timedelta, now: datetime
) -> Doc | None:
    """Return what the profile remembers under a name when it passes now, or None when it may not.

    Time never goes back: an event with an earlier time than the last pass of that name counts as of that pass. Raises
    NodeError without a profile, and for keys that are too long or too many.
    """
    if profile is None:
        raise NodeError("a throttle counts for a profile, and the event has none")
    if len(key) > LONGEST_KEY:
        raise NodeError(f"the key of a throttle has at most {LONGEST_KEY} characters, not {len(key)}")
    known: Doc = profile.get(MEMBER, {}).get(name) or {"longest": 0, "passed": {}}
    passed: dict[str, list[int]] = known["passed"]
    at = max([(now - _EPOCH) // _MILLISECOND, *(times[-1] for times in passed.values())])
    length = period // _MILLISECOND
    times = passed.get(key, [])
    if len(times) >= at_most and at - times[-at_most] < length:
        return None
    longest = max(known["longest"], length)
    alive = {other: left for other in passed if (left := _alive(passed[other], at - longest))}
    if key not in alive and len(alive) >= MOST_KEYS:
        # Two profiles that became one may have more together: those keys go on.
        raise NodeError(f"the throttle '{name}' has {MOST_KEYS} keys already that passed within its period")
    alive[key] = [*alive.get(key, []), at]
    return {"longest": longest, "passed": alive}


def _alive(times: list[int], ended: int) -> list[int]:
    return [time for time in times if time > ended]


def check_limit(at_most: Any, period: Any) -> None:
    """Raise NodeError for a limit that cannot be kept."""
    if not isinstance(at_most, int) or not 1 <= at_most <= MOST_PASSES:
        raise NodeError(f"a throttle lets 1 to {MOST_PASSES} pass, not {at_most!r}")
    if not isinstance(period, timedelta) or period < _MILLISECOND:
        raise NodeError(f"the period of a throttle is a length of time, not {period!r}")
