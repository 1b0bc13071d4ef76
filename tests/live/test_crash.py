"""Killed under load and at every crash point: nothing lost, nothing twice."""

import asyncio
import random
import signal
from pathlib import Path

import pytest

from headrace.engine.crash import REQUEST_POINTS
from tests.live.conftest import Starts
from tests.live.server import Server
from tests.live.traffic import Traffic, check_place
from tests.stores import STORES

ROUNDS = 10

ONLY_IN = {"store.claimed": "elastic", "store.settled": "elastic"}
"""Crash points of one store: the other makes a change and its claims in one transaction."""

EVERY_POINT = [
    (kind, point) for kind in STORES for point in REQUEST_POINTS if ONLY_IN.get(point, kind) == kind
]

SWEPT_SECONDS = 40.0
"""Until a server that runs has finished what another left: a lease of 30 s may have to end, and 10 s are waited."""


async def kill_after(server: Server, seconds: float) -> None:
    """Kill a server that is at work."""
    await asyncio.sleep(seconds)
    server.kill()


async def recover(server: Server, *traffic: Traffic, finish: bool = True) -> None:
    """Check after a restart; send what was not answered; then send everything again, which changes nothing.

    Without `finish` everything is sent again while the store still holds unfinished work of a process that died.
    """
    place = server.place
    if finish:
        await place.finish()
        check_place(place, *traffic)
    for each in traffic:
        await each.send_again(server.port, each.unanswered)
        each.acknowledged += each.unanswered
        each.unanswered = []
        if not finish:
            await each.send_again(server.port, each.acknowledged)
    await place.finish()
    check_place(place, *traffic)
    before = place.contents()
    for each in traffic:
        await each.send_again(server.port, each.acknowledged)
    assert place.contents() == before


async def test_killed_ten_times_under_load(start: Starts) -> None:
    dice = random.Random(20_260_101)
    rounds: list[Traffic] = []
    server = start()
    for number in range(4 * ROUNDS):
        if number >= ROUNDS and sum(len(each.acknowledged) for each in rounds) > 200:
            break
        traffic = Traffic(f"round{number}", seed=number)
        rounds.append(traffic)
        await asyncio.gather(traffic.send(server.port), kill_after(server, dice.uniform(0.02, 0.6)))
        server = start()
        await server.place.finish()
        check_place(server.place, *rounds)
    assert sum(len(each.acknowledged) for each in rounds) > 200
    await recover(server, *rounds)
    assert server.stop() == 0


@pytest.mark.parametrize(("store_kind", "point"), EVERY_POINT)
@pytest.mark.parametrize("times", [1, 60])
async def test_killed_at_each_point(start: Starts, point: str, times: int) -> None:
    server = start(HEADRACE_CRASH_AT=f"{point}:{times}")
    traffic = Traffic(point, seed=times)
    async with asyncio.timeout(120):
        await traffic.send(server.port)
    assert server.wait_until_ended() == -signal.SIGKILL
    assert traffic.unanswered
    await recover(start(), traffic, finish=times == 1)


# A transaction leaves nothing to finish.
@pytest.mark.parametrize("store_kind", ["elastic"])
@pytest.mark.parametrize("point", ["store.claimed", "store.after_commit"])
async def test_servers_finish_by_themselves_what_a_dead_one_left(start: Starts, point: str) -> None:
    server = start(HEADRACE_CRASH_AT=f"{point}:80")
    traffic = Traffic(point, seed=7)
    await traffic.send(server.port)
    other = start()
    await asyncio.to_thread(other.place.wait_until_finished, SWEPT_SECONDS)
    check_place(other.place, traffic)
    await recover(other, traffic)


async def test_one_of_two_servers_on_one_store_is_killed(start: Starts) -> None:
    first, second = start(), start()
    traffic = Traffic("two", seed=2, sessions=30)

    async def end() -> None:
        await traffic.reach(100)
        first.kill()
        await traffic.reach(len(traffic.acknowledged) + 100)
        traffic.stopping = True

    await asyncio.gather(traffic.send(first.port, second.port), end())
    await second.place.finish()
    check_place(second.place, traffic)
    await recover(second, traffic)
    await recover(start(), traffic)


async def test_one_of_two_servers_dies_between_its_commit_and_its_answer(start: Starts) -> None:
    first, second = start(HEADRACE_CRASH_AT="store.after_commit:40"), start()
    traffic = Traffic("two", seed=3, sessions=30)

    async def end() -> None:
        await asyncio.to_thread(first.wait_until_ended)
        await asyncio.sleep(0.3)
        traffic.stopping = True

    await asyncio.gather(traffic.send(first.port, second.port), end())
    # The other goes on from what the dead one left.
    await recover(second, traffic, finish=False)


def test_an_unknown_crash_point_is_refused(launch: Starts, tmp_path: Path) -> None:
    server = launch(HEADRACE_CRASH_AT="nowhere")
    assert server.wait_until_ended() == 3
    assert "no crash point 'nowhere'" in server.text()
    assert not (tmp_path / "data" / "headrace.db").exists()
