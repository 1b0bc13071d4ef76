"""What segments know of a profile's events: aggregates in buckets.

The member `past` of a profile holds, by the key of each aggregate, a list of [bucket, value] in order of their buckets;
of `distinct` it is the hash of each value with the newest bucket that has it. A bucket is a number of whole seconds,
minutes, hours or days since 1970, by the length of the window, so that a window begins with a whole bucket; without a
window there is one bucket, 0. A key that is there stands for all events of the profile, one that is not for an unknown
past: nothing is computed from it.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from operator import itemgetter
from typing import Any, Final

from headrace.engine.language.lookup import MISSING
from headrace.engine.language.past import Aggregate
from headrace.engine.model import Doc, from_iso

MOST_DISTINCT: Final = 256
"""Values that `distinct` tells apart; more count as so many."""

LARGEST: Final = 1e12
"""Numbers that are larger are not summed."""

_MILLIONTHS: Final = 1_000_000
"""Sums are kept in millionths: whole numbers add up to the same in whatever order."""

_value: Final = itemgetter(1)

Entries = list[list[Any]]


def bucket_of(aggregate: Aggregate, happened: float) -> int:
    """Return the bucket of an event by its time, in seconds since 1970."""
    return int(happened // aggregate.width) if aggregate.width else 0


def begin_of(aggregate: Aggregate, now: float) -> int:
    """Return the first bucket of a window that ends now."""
    return int((now - aggregate.span) // aggregate.width) if aggregate.width else 0


def add_event(past: Doc, aggregates: Iterable[Aggregate], event: Mapping[str, Any], now: float) -> bool:
    """Count an event in the aggregates that are known; returns whether anything changed.

    `now` is in seconds since 1970. What is older than its window is dropped.
    """
    time = event["time"]
    # Most events happen when they are received: then it is the same text.
    is_now = time["happened"] is time["received"]
    happened = now if is_now else from_iso(time["happened"]).timestamp()
    changed = False
    for aggregate in aggregates:
        kept = past.get(aggregate.key)
        if kept is None:
            continue
        width = aggregate.width
        # As `bucket_of` and `begin_of` say; this is done for every event.
        bucket = int(happened // width) if width else 0
        begin = int((now - aggregate.span) // width) if width else 0
        if bucket < begin:
            continue
        if aggregate.of == "count":
            if kept and kept[-1][0] == bucket:
                kept[-1][1] += 1
            else:
                _merge(kept, bucket, 1, _plus)
            changed = True
            if kept[0][0] < begin - 1:
                del kept[: bisect_left(kept, [begin - 1])]
        elif _add(kept, aggregate, bucket, event):
            changed = True
            _drop(kept, aggregate, begin)
    return changed


def _add(kept: Any, aggregate: Aggregate, bucket: int, event: Mapping[str, Any]) -> bool:
    of = aggregate.of
    if of == "sum":
        number = aggregate.read(event)
        if type(number) not in (int, float) or not -LARGEST <= number <= LARGEST:
            return False
        _merge(kept, bucket, round(number * _MILLIONTHS), _plus)
    elif of == "distinct":
        value = aggregate.read(event)
        if value is MISSING or value is None or type(value) in (dict, list):
            return False
        name = blake2b(f"{type(value).__name__} {value}".encode(errors="replace"), digest_size=6).hexdigest()
        kept[name] = max(bucket, kept.get(name, bucket))
    else:
        _merge(kept, bucket, event["time"]["happened"], min if of == "first" else max)
    return True


def _plus(one: int, other: int) -> int:
    return one + other


def _merge(entries: Entries, bucket: int, value: Any, both: Any) -> None:
    """Put a value into its bucket; most events are newer than all before."""
    if not entries or entries[-1][0] < bucket:
        entries.append([bucket, value])
        return
    place = len(entries) - 1 if entries[-1][0] == bucket else bisect_left(entries, [bucket])
    if place < len(entries) and entries[place][0] == bucket:
        entries[place] = [bucket, both(entries[place][1], value)]
    else:
        entries.insert(place, [bucket, value])


def _drop(kept: Any, aggregate: Aggregate, begin: int) -> None:
    """Drop what is too old, or more than is kept. One bucket stays for processes whose clocks are late."""
    of = aggregate.of
    if of == "distinct":
        # Not with every event, for what is too old does no harm.
        if len(kept) > MOST_DISTINCT // 2:
            for name in [name for name, bucket in kept.items() if bucket < begin - 1]:
                del kept[name]
        _keep_newest(kept)
    elif kept[0][0] < begin - 1:
        del kept[: bisect_left(kept, [begin - 1])]
    if of == "last":
        del kept[:-1]


def _keep_newest(values: dict[str, int]) -> None:
    """Keep the newest values; which ones does not depend on the order in which they came."""
    if len(values) > MOST_DISTINCT:
        newest = sorted(values.items(), key=lambda item: (item[1], item[0]))[-MOST_DISTINCT:]
        values.clear()
        values |= dict(newest)


def value_of(past: Mapping[str, Any], aggregate: Aggregate, now: float) -> Any:
    """Return what an expression gets: a number, or a time; missing where there is none or it is not known.

    `now` is in seconds since 1970.
    """
    kept = past.get(aggregate.key)
    if kept is None:
        return MISSING
    width, of = aggregate.width, aggregate.of
    begin = int((now - aggregate.span) // width) if width else 0
    if of == "distinct":
        return sum(map(begin.__le__, kept.values())) if begin else len(kept)
    inside = kept if not kept or kept[0][0] >= begin else kept[bisect_left(kept, [begin]) :]
    if of == "count":
        return sum(map(_value, inside)) if len(inside) != 1 else inside[0][1]
    if of == "sum":
        millionths = sum(map(_value, inside))
        return millionths // _MILLIONTHS if millionths % _MILLIONTHS == 0 else millionths / _MILLIONTHS
    if not inside:
        return MISSING
    return from_iso(inside[0 if of == "first" else -1][1])


def empty(aggregate: Aggregate) -> Any:
    """Return what is kept of a profile that has no events."""
    return {} if aggregate.of == "distinct" else []


def fresh(aggregates: Iterable[Aggregate]) -> Doc:
    """Return the past of a profile that has no events."""
    return {aggregate.key: empty(aggregate) for aggregate in aggregates}


def unknown(past: Mapping[str, Any], aggregates: Iterable[Aggregate]) -> list[Aggregate]:
    """Return the aggregates that a profile's past does not have."""
    return [aggregate for aggregate in aggregates if aggregate.key not in past]


def join(one: Mapping[str, Any], other: Mapping[str, Any]) -> Doc:
    """Return the past of a profile that was two: bucket by bucket, where both are known.

    Order and grouping do not matter. Neither of the two is changed.
    """
    return {key: _join(key[0], kept, other[key]) for key, kept in one.items() if key in other}


def _join(letter: str, one: Any, other: Any) -> Any:
    if letter == "d":
        joined = {name: max(bucket, other.get(name, bucket)) for name, bucket in one.items()}
        joined |= {name: bucket for name, bucket in other.items() if name not in joined}
        _keep_newest(joined)
        return joined
    both = {"f": min, "l": max}.get(letter, _plus)
    entries = [[*entry] for entry in one]
    for bucket, value in other:
        _merge(entries, bucket, value, both)
    return entries[-1:] if letter == "l" else entries
