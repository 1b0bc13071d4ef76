"""Effects under kills: each arrives, with one key, and none of an attempt that came to nothing."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import Starts
from tests.live.receiver import Receiver, receiving
from tests.live.server import TOKEN, Doc, Server, track_body, write_workspace
from tests.live.traffic import Traffic, check_place

ROUNDS_BY = "HEADRACE_TEST_EFFECT_ROUNDS"
ROUNDS = int(os.environ.get(ROUNDS_BY, "4"))
"""How often a sender is killed, on each store."""

POINTS = ("effects.claimed", "effects.sent:3", "effects.done", "")
"""Where it dies, in turn; the last one whenever the traffic ends."""

SETTLED_SECONDS = 60.0
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SENDS = {
    "HEADRACE_ALLOW_ADDRESSES": "127.0.0.1/32",
    "HEADRACE_OUTBOX_LEASE_SECONDS": "2",
    "HOOK": "whsec_c2VjcmV0LW9mLXRlc3Rz",
}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Give a receiver."""
    with receiving() as receiver:
        yield receiver


def telling(url: str, **config: Any) -> Doc:
    """Return the workflow that counts, and tells the count."""
    body = {
        "event": "{{ event.id }}",
        "n": "{{ profile.stats.counters.seen }}",
        "profile": "{{ profile.id }}",
    }
    hook = {"url": url, "body": body, "timeout_seconds": 1, "sign": [{"secret": "HOOK"}], **config}
    return {
        "on": {"event": ["count"]},
        "nodes": {
            "seen": {
                "plugin": "increment",
                "config": {"field": "profile.stats.counters.seen"},
                "then": {"done": ["tell"]},
            },
            "tell": {"plugin": "webhook", "config": hook},
        },
    }


async def settle(server: Server) -> None:
    """Wait until no effect is pending, those included that a commit has still to write."""
    await server.place.finish()
    await asyncio.to_thread(wait_until_settled, server)


def wait_until_settled(server: Server) -> None:
    """Wait until no effect that is written is pending."""
    until = time.monotonic() + SETTLED_SECONDS
    while waiting := server.get("/api/effects?status=pending&limit=1")[1]["items"]:
        assert time.monotonic() < until, waiting
        time.sleep(0.1)


def check_effects(server: Server, receiver: Receiver, *traffic: Traffic) -> None:
    """Check what arrived against what is kept and what was acknowledged."""
    place = server.place
    counting = {event["key"]: event["id"] for event in place.docs("events") if event["type"] == "count"}
    effects = {counting[doc["event"]]: doc for doc in place.docs("effects")}
    arrived = receiver.by_event()
    # At least once: every event of an acknowledged request is kept (`check_place`), and every one that is kept is told.
    assert effects.keys() == set(counting.values()) == arrived.keys()
    for event, calls in arrived.items():
        # One key, one content: an attempt that came to nothing would have counted otherwise.
        keys = {headers["idempotency-key"] for headers, _ in calls}
        assert keys == {effects[event]["id"]} == {headers["webhook-id"] for headers, _ in calls}
        assert len({body["n"] for _, body in calls}) == 1
        assert effects[event]["status"] == "sent"
    # Receivers that know keys see each once: the counts of each profile are 1, 2, 3 …
    told: dict[str, list[int]] = {}
    for calls in arrived.values():
        told.setdefault(calls[0][1]["profile"], []).append(calls[0][1]["n"])
    for numbers in told.values():
        assert sorted(numbers) == list(range(1, len(numbers) + 1))
    check_place(place, *traffic)
    assert not receiver.faults


async def test_effects_arrive_whoever_is_killed(
    start: Starts, launch: Starts, receiver: Receiver, tmp_path: Path
) -> None:
    workspace = write_workspace(tmp_path / "telling", count=telling(receiver.url))
    dice, rounds = random.Random(5), list[Traffic]()
    second = start(workspace, **SENDS)
    receiver.bad_share = 0.2
    for number in range(ROUNDS):
        point = POINTS[number % len(POINTS)]
        first = launch(workspace, HEADRACE_CRASH_AT=point, **SENDS)
        # One with a point may die at once: there are effects of the rounds before.
        with suppress(AssertionError) if point else nullcontext():
            first.wait_until_ready()
        traffic = Traffic(f"round{number}", seed=number)
        rounds.append(traffic)
        ports = [server.port for server in (first, second) if server.process.poll() is None]
        await asyncio.gather(traffic.send(*ports), chaos(traffic, receiver, dice, first if point else None))
        if not point:
            first.kill()
        assert await asyncio.to_thread(first.wait_until_ended) == -signal.SIGKILL
    receiver.bad_share = 0.0
    last = start(workspace, **SENDS)
    for each in rounds:
        await each.send_again(last.port, each.unanswered)
        each.acknowledged += each.unanswered
        each.unanswered = []
    await settle(last)
    check_effects(last, receiver, *rounds)
    # Sent again, an event has no second effect.
    before = len(receiver.calls)
    await rounds[0].send_again(last.port, rounds[0].acknowledged[:50])
    await asyncio.sleep(0.3)
    assert len(receiver.calls) == before


async def chaos(traffic: Traffic, receiver: Receiver, dice: random.Random, dying: Server | None) -> None:
    """Let the receiver be away for a while; end the traffic when a server died of it that was to."""
    await asyncio.sleep(dice.uniform(0.1, 0.3))
    receiver.down()
    await asyncio.sleep(dice.uniform(0.05, 0.2))
    receiver.up()
    await asyncio.sleep(dice.uniform(0.1, 0.4))
    await traffic.reach(20)
    if dying is not None:
        await asyncio.to_thread(dying.wait_until_ended)
    traffic.stopping = True


@pytest.mark.parametrize("store_kind", ["embedded"])
async def test_a_stop_loses_nothing_and_doubles_nothing(
    start: Starts, receiver: Receiver, tmp_path: Path
) -> None:
    workspace = write_workspace(tmp_path / "telling", count=telling(receiver.url))
    first, traffic = start(workspace, **SENDS), Traffic("stop", seed=1)

    async def stop() -> None:
        await asyncio.sleep(0.4)
        assert await asyncio.to_thread(first.stop) == 0

    await asyncio.gather(traffic.send(first.port), stop())
    second = start(workspace, **SENDS)
    await traffic.send_again(second.port, traffic.unanswered)
    traffic.acknowledged += traffic.unanswered
    traffic.unanswered = []
    await settle(second)
    check_effects(second, receiver, traffic)
    assert max(len(calls) for calls in receiver.by_event().values()) == 1


@pytest.mark.parametrize("store_kind", ["embedded"])
async def test_ordered_effects_arrive_in_order(start: Starts, receiver: Receiver, tmp_path: Path) -> None:
    workspace = write_workspace(tmp_path / "telling", count=telling(receiver.url, ordered=True))
    first, second = start(workspace, **SENDS), start(workspace, **SENDS)
    receiver.bad_share = 0.05
    for number in range(12):
        server = (first, second)[number % 2]
        body = track_body("count", session="one", ids=[f"e{number}"])
        assert (await asyncio.to_thread(server.post, body))[0] == 200
    await settle(first)
    numbers = [body["n"] for _, body in receiver.calls]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(1, 13))


async def test_what_is_refused_is_dead_and_told_once(
    start: Starts, receiver: Receiver, tmp_path: Path
) -> None:
    dead = {
        "on": {"event": ["webhook-dead"]},
        "nodes": {"count": {"plugin": "increment", "config": {"field": "profile.stats.counters.dead"}}},
    }
    # Nothing is sent a second time because a busy machine was slow to answer the first.
    patient = {**SENDS, "HEADRACE_OUTBOX_LEASE_SECONDS": "60"}
    workspace = write_workspace(
        tmp_path / "telling", count=telling(receiver.url, timeout_seconds=20), dead=dead
    )
    receiver.answer = 410
    server = start(workspace, **patient)
    assert server.post(track_body("count", session="one", ids=["e1"]), traceparent=PARENT)[0] == 200
    await settle(server)
    (effect,) = server.get("/api/effects")[1]["items"]
    assert (effect["status"], effect["reason"], len(receiver.calls)) == ("dead", "status 410", 1)
    (event,) = server.get("/api/events?type=webhook-dead")[1]["items"]
    assert event["properties"]["effect"] == effect["id"]
    (profile,) = server.get("/api/profiles")[1]["items"]
    assert profile["stats"]["counters"] == {"seen": 1, "dead": 1}
    story = server.get("/api/events/e1/story")[1]
    assert [one["status"] for one in story["effects"][0]["attempts"]] == [410]
    # Sent again by a person: with its key.
    receiver.answer = None
    again = server.request("POST", f"/api/effects/{effect['id']}/resend", Authorization=f"Bearer {TOKEN}")
    assert again[0] == 200
    await settle(server)
    assert server.get(f"/api/effects/{effect['id']}")[1]["status"] == "sent"
    assert len({headers["idempotency-key"] for headers, _ in receiver.calls}) == 1
    assert {headers["traceparent"] for headers, _ in receiver.calls} == {PARENT}
    # The secret is in no answer, no log, and nowhere in what is kept.
    for text in (effect, story, server.text(), server.place.contents("effects")):
        assert SENDS["HOOK"] not in str(text)
