"""random_split: stable for a profile, in the shares that were asked for."""

from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError

from headrace.engine.plugin import Example
from headrace.engine.testing.example import run_example


async def way(profile: str | None, *, name: str = "x", session: str | None = None, event: str = "e") -> str:
    ran = await run_example(
        "random_split",
        Example(
            {"shares": {"a": 3, "b": 1}, "name": name},
            "",
            profile=None if profile is None else {"id": profile},
            session=None if session is None else {"id": session},
            event={"id": event},
        ),
    )
    return ran.port


async def test_a_profile_always_goes_the_same_way() -> None:
    assert {await way("p-1", event=str(number)) for number in range(10)} == {await way("p-1")}


async def test_without_a_profile_the_session_decides() -> None:
    assert len({await way(None, session="s-1", event=str(number)) for number in range(10)}) == 1


async def test_without_both_the_event_decides() -> None:
    assert len({await way(None, event=str(number)) for number in range(40)}) == 2
    assert await way(None, event="7") == await way(None, event="7")


async def test_shares_are_kept() -> None:
    ways = Counter([await way(f"p-{number}") for number in range(1000)])
    assert 700 < ways["a"] < 800


async def test_a_share_of_0_gets_nobody() -> None:
    for number in range(20):
        example = Example({"shares": {"none": 0, "all": 1}}, "all", profile={"id": f"p-{number}"})
        assert (await run_example("random_split", example)).port == "all"


async def test_names_are_independent() -> None:
    same = [await way(f"p-{n}", name="x") == await way(f"p-{n}", name="y") for n in range(200)]
    assert 90 < sum(same) < 160


@pytest.mark.parametrize("shares", [{}, {"a": -1, "b": 2}, {"a": 0}, {"error": 1}, {"A b": 1}, {"a": 0.5}])
async def test_shares_that_cannot_work(shares: dict[str, Any]) -> None:
    with pytest.raises((ValidationError, ValueError)):
        await run_example("random_split", Example({"shares": shares}, ""))
