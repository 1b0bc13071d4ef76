"""Locks: first come first served, bounded, given free whatever happens."""

import asyncio
import random
from time import perf_counter

import pytest

from headrace.engine.errors import BusyError
from headrace.engine.locks import Held, Locks


async def test_a_free_lock_is_taken_at_once() -> None:
    locks = Locks(10)
    assert await locks.take("a") is False
    assert await locks.take("b") is False
    assert len(locks) == 2
    locks.release("a")
    locks.release("b")
    assert len(locks) == 0


async def test_waiters_are_served_in_their_order() -> None:
    locks = Locks(10)
    served: list[int] = []

    async def one(number: int) -> None:
        assert await locks.take("a") is (number > 0)
        served.append(number)
        await asyncio.sleep(0)
        locks.release("a")

    await asyncio.gather(*(one(number) for number in range(6)))
    assert served == list(range(6))
    assert len(locks) == 0


async def test_too_many_waiters_are_refused() -> None:
    locks = Locks(2)
    await locks.take("a")
    waiting = [asyncio.create_task(locks.take("a")) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(BusyError, match="2 requests wait"):
        await locks.take("a")
    # Others are free.
    await locks.take("b")
    for _ in waiting:
        locks.release("a")
    assert await asyncio.gather(*waiting) == [True, True]


async def test_a_waiter_that_goes_away_leaves_no_trace() -> None:
    locks = Locks(10)
    await locks.take("a")
    first, second = (asyncio.create_task(locks.take("a")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    locks.release("a")
    assert await second is True
    locks.release("a")
    assert len(locks) == 0


async def test_a_waiter_that_goes_away_when_it_is_its_turn_passes_it_on() -> None:
    locks = Locks(10)
    await locks.take("a")
    first, second = (asyncio.create_task(locks.take("a")) for _ in range(2))
    await asyncio.sleep(0)
    locks.release("a")
    first.cancel()
    assert await second is True
    with pytest.raises(asyncio.CancelledError):
        await first
    locks.release("a")
    assert len(locks) == 0


async def test_held_takes_a_lock_once_and_gives_all_free() -> None:
    locks = Locks(10)
    held = Held(locks)
    assert await held.take("a") is False
    assert await held.take("a") is False
    await held.take("b")
    assert held.keys == ["a", "b"]
    held.release()
    held.release()
    assert len(locks) == 0


async def test_two_are_never_within_whoever_goes_away() -> None:
    locks, dice = Locks(1000), random.Random(7)
    within: dict[str, int] = dict.fromkeys("ab", 0)
    done = 0

    async def one(key: str) -> None:
        nonlocal done
        held = Held(locks)
        try:
            await held.take(key)
            within[key] += 1
            assert within[key] == 1
            await asyncio.sleep(0)
            within[key] -= 1
            done += 1
        finally:
            held.release()

    tasks = [asyncio.create_task(one(dice.choice("ab"))) for _ in range(300)]
    for task in dice.sample(tasks, 60):
        await asyncio.sleep(0)
        if within["a"] == within["b"] == 0:
            task.cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert not [error for error in found if isinstance(error, AssertionError)]
    assert done >= 240
    assert len(locks) == 0


async def test_who_is_cancelled_in_the_turn_of_a_release_is_only_cancelled() -> None:
    locks = Locks(10)
    await locks.take("a")
    waiting = asyncio.create_task(locks.take("a"))
    await asyncio.sleep(0)
    waiting.cancel()
    locks.release("a")
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(locks) == 0


async def test_a_wait_ends_with_the_deadline() -> None:
    locks = Locks(10)
    await locks.take("a")
    with pytest.raises(BusyError, match="deadline"):
        await locks.take("a", perf_counter() + 0.02)
    locks.release("a")
    assert len(locks) == 0
