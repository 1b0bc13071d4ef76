"""throttle: exact in any period, by key, for a profile."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.engine.errors import NodeError
from headrace.engine.model import Doc
from headrace.engine.plugin import Example
from headrace.engine.testing.example import run_example
from headrace.engine.throttling import MOST_KEYS, after_pass
from tests.conftest import OpenLab
from tests.makers import Files, chain, count

START = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
START_MS = int(START.timestamp() * 1000)


class Throttled:
    """A profile that a name's throttle is asked about, in the way of the journal."""

    def __init__(self) -> None:
        self.profile: Doc = {}

    def passes(self, at: float, at_most: int, seconds: float, key: str = "") -> bool:
        now, period = START + timedelta(seconds=at), timedelta(seconds=seconds)
        passed = after_pass(self.profile, "t", key, at_most, period, now)
        if passed is not None:
            self.profile = {"throttles": {"t": passed}}
        return passed is not None


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from("ab"))), st.integers(1, 4), st.integers(1, 30))
def test_it_lets_pass_what_a_simple_model_lets_pass(
    steps: list[tuple[int, str]], at_most: int, period: int
) -> None:
    throttled, at = Throttled(), 0
    model: list[tuple[int, str]] = []
    for step, key in steps:
        at += step
        recent = [when for when, its in model if its == key and at - when < period]
        allowed = len(recent) < at_most
        assert throttled.passes(at, at_most, period, key) is allowed
        if allowed:
            model.append((at, key))


@given(
    st.lists(st.tuples(st.integers(-40, 60), st.sampled_from("ab"))), st.integers(1, 4), st.integers(1, 30)
)
def test_no_period_has_more_when_clocks_go_back_and_forth(
    steps: list[tuple[int, str]], at_most: int, period: int
) -> None:
    throttled, at = Throttled(), 0
    passed: dict[str, list[int]] = {"a": [], "b": []}
    for step, key in steps:
        at += step
        if throttled.passes(at, at_most, period, key):
            newest = max((times[-1] for times in passed.values() if times), default=at)
            passed[key].append(max(at, newest))
    for times in passed.values():
        assert all(later - earlier >= period for earlier, later in zip(times, times[at_most:], strict=False))


@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from([(1, 30), (3, 60)]))))
def test_nodes_of_one_name_that_differ_each_keep_their_own_limit(
    steps: list[tuple[int, tuple[int, int]]],
) -> None:
    throttled, at = Throttled(), 0
    # Passes are remembered for the longest period that was asked about so far: here both have been.
    passed = [at]
    assert throttled.passes(at, 3, 60)
    for step, (at_most, period) in steps:
        at += step
        allowed = sum(at - when < period for when in passed) < at_most
        assert throttled.passes(at, at_most, period) is allowed
        if allowed:
            passed.append(at)


def test_what_is_over_is_forgotten_and_what_is_kept_is_bounded() -> None:
    throttled = Throttled()
    for number in range(MOST_KEYS):
        assert throttled.passes(0, 1, 60, f"k{number}")
    with pytest.raises(NodeError, match="100 keys already"):
        throttled.passes(1, 1, 60, "one more")
    assert throttled.passes(60, 1, 60, "one more")
    assert throttled.profile["throttles"]["t"]["passed"].keys() == {"one more"}
    with pytest.raises(NodeError, match="at most 200 characters"):
        throttled.passes(0, 1, 60, "k" * 201)


def test_two_profiles_that_became_one_may_have_more_keys_and_those_go_on() -> None:
    throttled = Throttled()
    throttled.profile["throttles"] = {
        "t": {"longest": 60_000, "passed": {f"k{number}": [START_MS] for number in range(MOST_KEYS + 20)}}
    }
    assert throttled.passes(1, 2, 60, "k1")
    assert not throttled.passes(2, 2, 60, "k1")
    assert throttled.passes(3, 2, 60, "k2")
    with pytest.raises(NodeError, match="100 keys already"):
        throttled.passes(4, 2, 60, "one more")
    # Those that passed again are left; whatever is over may come anew.
    assert throttled.passes(60, 2, 60, "one more")
    assert throttled.profile["throttles"]["t"]["passed"].keys() == {"k1", "k2", "one more"}


@pytest.mark.parametrize(
    "config",
    [
        {"name": "t", "at_most": 0, "period": "1h"},
        {"name": "t", "at_most": 101, "period": "1h"},
        {"name": "t", "at_most": 1, "period": "0s"},
        {"name": "a.b", "at_most": 1, "period": "1h"},
        {"name": "t", "at_most": 1},
        {"name": "t", "at_most": 1.5, "period": "1h"},
    ],
)
async def test_configs_that_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        await run_example("throttle", Example(config, ""))


THROTTLE = {"name": "t", "at_most": 3, "period": "1h"}


async def test_two_nodes_of_one_wave_do_not_take_the_last_pass_twice(open_lab: OpenLab) -> None:
    node = {"plugin": "throttle", "config": THROTTLE | {"at_most": 1}, "then": {"passed": ["count"]}}
    nodes = {"a": node, "b": node, "count": {"plugin": "increment", "config": count()[1]}}
    async with open_lab({"w": {"on": {"event": ["x"]}, "nodes": nodes}}) as lab:
        await lab.track("x")
        event = await lab.one("event")
        assert event["errors"] == ["b: another node has just passed the throttle 't', and no more may"]
        assert await lab.counter() == 1


async def test_many_requests_to_two_servers_at_the_same_time(open_lab: OpenLab) -> None:
    files: Files = {"w": chain("x", ("throttle", THROTTLE), count())}
    async with open_lab(files) as first, open_lab(files) as second:
        await first.track("begin")
        await asyncio.gather(*(lab.track("x") for lab in (first, second) for _ in range(10)))
        assert await first.counter() == 3
        (passed,) = (await first.one("profile"))["throttles"].values()
        assert len(passed["passed"][""]) == 3
