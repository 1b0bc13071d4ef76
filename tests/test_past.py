"""What segments know of the past: buckets, windows and their joining."""

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine.errors import ExpressionError
from headrace.engine.language.expression import compile_expression
from headrace.engine.language.past import Aggregate
from headrace.engine.model import Doc, iso
from headrace.engine.segments.past import (
    MOST_DISTINCT,
    add_event,
    begin_of,
    bucket_of,
    empty,
    join,
    unknown,
    value_of,
)

NOW = datetime(2026, 1, 15, 12, 0, 0, tzinfo=UTC)
KINDS = (
    Aggregate("a", "count"),
    Aggregate("a", "count", (), 1_800.0),
    Aggregate("a", "count", (), 86_400.0),
    Aggregate("a", "sum", ("properties", "n"), 30 * 86_400.0),
    Aggregate("a", "sum", ("properties", "n")),
    Aggregate("a", "first", (), 30 * 86_400.0),
    Aggregate("a", "first"),
    Aggregate("a", "last"),
    Aggregate("a", "last", (), 365 * 86_400.0),
    Aggregate("a", "distinct", ("properties", "n")),
    Aggregate("a", "distinct", ("properties", "n"), 7 * 86_400.0),
)


def event(age: float, n: Any = 1) -> Doc:
    """An event of so many seconds ago."""
    return {
        "type": "a",
        "properties": {"n": n},
        "time": {"happened": iso(NOW - timedelta(seconds=age)), "received": iso(NOW)},
    }


def known() -> Doc:
    """The past of a profile without events."""
    return {aggregate.key: empty(aggregate) for aggregate in KINDS}


def past_of(events: list[Doc], now: datetime = NOW) -> Doc:
    past = known()
    for one in events:
        add_event(past, KINDS, one, now.timestamp())
    return past


def values(past: Doc, now: datetime = NOW) -> dict[str, Any]:
    return {aggregate.text: value_of(past, aggregate, now.timestamp()) for aggregate in KINDS}


numbers = st.one_of(
    st.integers(-1000, 1000), st.floats(-1e6, 1e6), st.text(max_size=2), st.none(), st.booleans()
)
ages = st.one_of(st.floats(0, 4_000), st.floats(0, 100_000), st.floats(0, 400 * 86_400))
events = st.lists(st.builds(event, ages, numbers), max_size=12)


@given(events, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_of_events_does_not_matter(some: list[Doc], dice: Any) -> None:
    mixed = some[:]
    dice.shuffle(mixed)
    assert values(past_of(some)) == values(past_of(mixed))


@given(events, events, events)
@settings(max_examples=100, deadline=None)
def test_joining_is_associative_and_commutative_and_counts_all(
    a: list[Doc], b: list[Doc], c: list[Doc]
) -> None:
    one, two, three = past_of(a), past_of(b), past_of(c)
    before = copy.deepcopy((one, two, three))
    assert join(one, two) == join(two, one)
    assert join(join(one, two), three) == join(one, join(two, three))
    assert join(one, known()) == one
    assert values(join(join(one, two), three)) == values(past_of(a + b + c))
    assert (one, two, three) == before


@given(events)
@settings(max_examples=100, deadline=None)
def test_the_past_is_json_and_stays_what_it_is(some: list[Doc]) -> None:
    past = past_of(some)
    assert json.loads(json.dumps(past)) == past


@given(events, st.floats(0, 400 * 86_400))
@settings(max_examples=100, deadline=None)
def test_what_was_dropped_on_the_way_is_not_missed_later(some: list[Doc], later: float) -> None:
    then = NOW + timedelta(seconds=later)
    assert values(past_of(some), then) == values(past_of(some, then), then)


def test_a_past_that_one_side_does_not_know_is_unknown() -> None:
    one, two = past_of([event(1)]), past_of([event(2)])
    del two[KINDS[0].key]
    both = join(one, two)
    assert unknown(both, KINDS) == [KINDS[0]]
    assert unknown(join({}, one), KINDS) == list(KINDS)


def test_an_unknown_aggregate_is_not_begun_by_an_event() -> None:
    past: Doc = {}
    assert not add_event(past, KINDS, event(1), NOW.timestamp())
    assert past == {}
    assert not value_of(past, KINDS[0], NOW.timestamp())


@pytest.mark.parametrize(
    ("seconds", "width"),
    [
        (None, 0), (60, 1), (3_599, 1), (3_600, 60), (2 * 86_400 - 1, 60), (2 * 86_400, 3_600),
        (60 * 86_400 - 1, 3_600), (60 * 86_400, 86_400),
    ],
)  # fmt: skip
def test_the_width_of_a_bucket_follows_from_the_window(seconds: float | None, width: int) -> None:
    assert Aggregate("a", "count", (), seconds).width == width


def test_a_window_begins_with_a_whole_bucket() -> None:
    day = Aggregate("a", "count", (), 86_400.0)
    assert day.width == 60
    now = NOW + timedelta(seconds=30)
    for age, counts in ((86_400, 1), (86_429, 1), (86_430, 1), (86_431, 0)):
        past = {day.key: empty(day)}
        happened = now - timedelta(seconds=age)
        add_event(
            past, [day], {"type": "a", "time": {"happened": iso(happened), "received": ""}}, now.timestamp()
        )
        assert value_of(past, day, now.timestamp()) == counts, age
        assert (bucket_of(day, happened.timestamp()) >= begin_of(day, now.timestamp())) is bool(counts)


def test_values() -> None:
    some = [
        event(10, 2),
        event(20, 0.1),
        event(30, 0.2),
        event(40, "x"),
        event(50, n=True),
        event(60, 10**13),
    ]
    found = values(past_of(some))
    assert found["events('a').count"] == 6
    assert found["events('a', within='30m').count"] == 6
    assert found["events('a').sum('properties.n')"] == 2.3
    assert found["events('a').distinct('properties.n')"] == 6
    assert found["events('a').first"] == NOW - timedelta(seconds=60)
    assert found["events('a').last"] == NOW - timedelta(seconds=10)


def test_distinct_is_bounded_and_says_at_least_so_many() -> None:
    some = [event(number, number) for number in range(MOST_DISTINCT + 50)]
    found = values(past_of(some))
    assert found["events('a').distinct('properties.n')"] == MOST_DISTINCT
    assert max(map(len, past_of(some).values())) <= MOST_DISTINCT + 50


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("events('a')", 7, "what is asked of the events is missing"),
        ("events('a').cuont", 12, "has no 'cuont'"),
        ("events('a').sum", 12, "sum needs a path"),
        ("events('a').count()", 18, "count is no call"),
        ("events(event.type).count", 13, "must be a text in quotes"),
        ("events('a', within='x').count", 20, "is not a duration"),
        ("events('a', within='4000d').count", 7, "within is from 1s to 3650d"),
        ("events('a', where=1).count", 7, "takes no 'where'"),
        ("events('a', 'b').count", 7, "takes one type"),
        ("events('a').sum('total')", 16, "no path of an event"),
        ("events('segment-left').count", 7, "cannot be counted"),
    ],
)
def test_wrong_questions_are_refused_with_their_place(text: str, column: int, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text, has_past=True)
    assert message in caught.value.message
    assert caught.value.column == column


def test_events_are_for_segments_only() -> None:
    with pytest.raises(ExpressionError, match="only for the conditions of"):
        compile_expression("events('a').count > 1")


def test_the_text_of_an_aggregate_is_what_an_author_writes() -> None:
    text = "events('a', within='30d').sum('properties.total')"
    (found,) = compile_expression(text, has_past=True).past.values()
    assert found.text == text
    assert found == Aggregate("a", "sum", ("properties", "total"), 30 * 86_400.0)
