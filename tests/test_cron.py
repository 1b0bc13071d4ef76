"""Ticks of a schedule: what may be written, and when they come in a zone."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from headrace.engine.cron import WORDS, Cron
from headrace.engine.trigger import Schedule

ADAPTER: TypeAdapter[Cron] = TypeAdapter(Cron)
OSLO = ZoneInfo("Europe/Oslo")
LEAPS = (datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC))
"""Noon of the days before summer time begins and ends."""

CRONS = [
    "30 2 * * *",
    "0 3 * * *",
    "0,30 2,3 * * *",
    "30 * * * *",
    "*/20 * * * *",
    "*/30 2 * * *",
    "15 1-3 * * *",
    "0 0 L * *",
    "0 9 * * MON#1",
]


def shown(cron: str, after: datetime, zone: ZoneInfo, number: int = 3) -> list[str]:
    return [f"{tick.astimezone(zone):%a %H:%M}" for tick in islice(Cron(cron).ticks(after, zone), number)]


@pytest.mark.parametrize(
    ("cron", "spring", "autumn"),
    [
        ("30 2 * * *", ["Sun 03:00", "Mon 02:30"], ["Sun 02:30", "Mon 02:30"]),
        ("0 3 * * *", ["Sun 03:00", "Mon 03:00"], ["Sun 03:00", "Mon 03:00"]),
        ("*/30 2 * * *", ["Mon 02:00", "Mon 02:30"], ["Sun 02:00", "Sun 02:30", "Sun 02:00", "Sun 02:30"]),
        ("0 1-4 * * *", ["Sun 01:00", "Sun 03:00", "Sun 04:00"], ["Sun 02:00", "Sun 03:00", "Sun 04:00"]),
    ],
)
def test_leaps_of_the_clock(cron: str, spring: list[str], autumn: list[str]) -> None:
    begins = [leap + timedelta(hours=11) for leap in LEAPS]
    assert shown(cron, begins[0], OSLO, len(spring)) == spring
    assert shown(cron, begins[1], OSLO, len(autumn)) == autumn


@given(
    st.sampled_from(CRONS),
    st.sampled_from(LEAPS),
    st.integers(-100_000, 200_000),
    st.sampled_from([OSLO, UTC]),
)
def test_next_and_newest_are_neighbours(cron: str, leap: datetime, seconds: int, zone: ZoneInfo) -> None:
    now = leap + timedelta(seconds=seconds)
    compiled = Cron(cron)
    after, before = compiled.next(now, zone), compiled.newest(now, zone)
    assert before <= now < after
    assert compiled.next(before, zone) == after
    assert compiled.newest(after, zone) == after
    assert compiled.newest(after - timedelta(microseconds=1), zone) == before
    assert after.tzinfo is UTC


@given(
    st.text(max_size=30) | st.lists(st.text("0123456789*/-,LW#JANMO ", max_size=6), max_size=6).map(" ".join)
)
def test_whatever_is_written_is_a_cron_or_a_problem(text: str) -> None:
    try:
        cron = ADAPTER.validate_python(text)
    except ValidationError as error:
        (problem,) = error.errors()
        assert problem["ctx"]["fix"]
    else:
        assert cron.next(LEAPS[0], OSLO) > LEAPS[0]
        assert cron.newest(LEAPS[0], OSLO) <= LEAPS[0]


@pytest.mark.parametrize("word", WORDS)
def test_words_are_told_in_fields(word: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ADAPTER.validate_python(word)
    (problem,) = caught.value.errors()
    assert problem["ctx"]["fix"] == f'Write "{WORDS[word]}".'
    assert Cron(WORDS[word]).next(LEAPS[0], OSLO) > LEAPS[0]


def test_a_schedule_is_written_as_it_was_read() -> None:
    given = {"cron": "0 9 * * 1", "zone": "Europe/Oslo", "segment": "vip", "late": "2d"}
    schedule = Schedule.model_validate(given)
    assert schedule.model_dump(exclude_unset=True) == given
    assert Cron("0 9 * * 1") == schedule.cron != Cron("1 9 * * 1")
