"""Turns at documents: one at a time for each key, in the order of coming, whoever gives up."""

import asyncio
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from headrace.engine.store.elastic.turns import Turns

KEYS = ("a", "b", "c")
someone = st.tuples(st.lists(st.sampled_from(KEYS), min_size=1, max_size=4), st.booleans())


async def all_go(comers: list[tuple[list[str], bool]]) -> list[int]:
    """Let all come at once, some of whom give up while they wait; returns who went, in order."""
    turns, inside, went = Turns(), Counter[str](), list[int]()

    async def go(number: int, keys: list[str]) -> None:
        turn = await turns.enter(keys)
        inside.update(set(keys))
        try:
            assert max(inside.values()) == 1, "two at one document"
            went.append(number)
            await asyncio.sleep(0)
        finally:
            inside.subtract(set(keys))
            turns.leave(keys, turn)

    tasks = [asyncio.ensure_future(go(number, keys)) for number, (keys, _) in enumerate(comers)]
    await asyncio.sleep(0)
    for task, (_, gives_up) in zip(tasks, comers, strict=True):
        if gives_up:
            task.cancel()
    ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    assert all(one is None or isinstance(one, asyncio.CancelledError) for one in ended), ended
    for _ in comers:
        # Who gave up hands on when those before it are done, one after the other.
        await asyncio.sleep(0)
    assert not turns._last, "keys that nobody has are kept"
    return went


@given(st.lists(someone, max_size=8))
def test_one_at_a_time_in_the_order_of_coming(comers: list[tuple[list[str], bool]]) -> None:
    went = asyncio.run(all_go(comers))
    assert {number for number, (_, gives_up) in enumerate(comers) if not gives_up} <= set(went)
    for key in KEYS:
        of_key = [number for number in went if key in comers[number][0]]
        assert of_key == sorted(of_key), f"not in the order of coming at {key}"


async def test_who_is_alone_waits_for_nothing() -> None:
    turns = Turns()
    entering = turns.enter(["a"])
    try:
        entering.send(None)
    except StopIteration as entered:
        turns.leave(["a"], entered.value)
    else:
        raise AssertionError("it waited")
