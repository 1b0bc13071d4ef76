"""The cluster's only node is killed under load: what was acknowledged is there, once, and nobody need help."""

import asyncio
import json
import os
import random
import time
from collections.abc import Iterator

import pytest

from tests.live.conftest import Starts
from tests.live.server import Server, track_body
from tests.live.test_crash import recover
from tests.live.traffic import Sent, Traffic, check_place
from tests.parts.elasticsearch import ElasticsearchNode
from tests.store_fixtures import own_place
from tests.stores import ElasticPlace

KILLS_BY = "HEADRACE_TEST_NODE_KILLS"
ROUNDS = int(os.environ.get(KILLS_BY, "4"))
"""A round takes 17 seconds, most of it the node's start."""

TIMEOUT_SECONDS = 1.0
"""What one request to the node may take."""

ANSWERED_WITHIN_SECONDS = 10.0 + TIMEOUT_SECONDS + 1.0
"""A request's deadline, by default, and what was begun before it."""

BACK_WITHIN_SECONDS = 30.0
MOST_MIB = 250


@pytest.fixture
def place() -> Iterator[ElasticPlace]:
    """Give a place on a node of the test's own."""
    with ElasticsearchNode() as node, own_place(node) as place:
        yield ElasticPlace(node, f"{place.url}&timeout={TIMEOUT_SECONDS:g}")


async def kill_and_restart(
    node: ElasticsearchNode, server: Server, traffic: Traffic, dice: random.Random
) -> None:
    """Kill the node at any moment; while it is away, whoever asks is told so at once."""
    await asyncio.sleep(dice.uniform(0.05, 0.5))
    await asyncio.to_thread(node.kill)
    restarting = asyncio.create_task(asyncio.to_thread(node.restart))
    await asyncio.sleep(2)
    name = f"{traffic.name}-asks"
    body = json.dumps(track_body("count", session=name, ids=[name])).encode()
    traffic.unanswered.append(Sent("/track", "", body, (name,)))
    began = time.monotonic()
    status, headers, _ = await asyncio.to_thread(server.request, "POST", "/track", body)
    assert time.monotonic() - began < 3
    assert (status, int(headers["retry-after"]) > 0) == (503, True)
    await restarting


@pytest.mark.timeout(400)
async def test_the_node_is_killed_under_load(start: Starts, place: ElasticPlace) -> None:
    dice = random.Random(20_260_102)
    server = start()
    rounds: list[Traffic] = []
    for number in range(ROUNDS):
        traffic = Traffic(f"round{number}", seed=number)
        rounds.append(traffic)
        sending = asyncio.create_task(traffic.send(server.port))
        await traffic.reach(20, BACK_WITHIN_SECONDS)
        await kill_and_restart(place.node, server, traffic, dice)
        await traffic.reach(len(traffic.acknowledged) + 50, BACK_WITHIN_SECONDS)
        traffic.stopping = True
        await sending
        assert traffic.slowest < ANSWERED_WITHIN_SECONDS
        await place.finish()
        check_place(place, *rounds)
        assert server.resident_mib() < MOST_MIB
    await recover(server, *rounds)
    assert server.stop() == 0
    assert "Traceback" not in server.text()
