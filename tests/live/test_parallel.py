"""Many clients at once, on one server process and on two: every event counts once, and in one profile."""

import asyncio
import json

import pytest

from tests.live.conftest import Starts
from tests.live.connection import Connection
from tests.live.server import Doc, Server, track_body

CONNECTIONS = 50
INCREMENTS = 200
ROUNDS = 10


async def send_at_once(servers: list[Server], session: str, requests: int) -> set[str]:
    """Send events of one session over 50 connections to all servers; returns the profiles that were answered."""
    left = iter(range(requests))
    profiles: set[str] = set()

    async def client(number: int) -> None:
        connection = Connection(servers[number % len(servers)].port)
        for event in left:
            body = json.dumps(track_body("count", session=session, ids=[f"{session} {event}"])).encode()
            status, answer = await connection.post(body)
            assert status == 200, answer
            profiles.add(answer["profile"]["id"])
        connection.close()

    await asyncio.gather(*(client(number) for number in range(CONNECTIONS)))
    return profiles


def read_profile(server: Server, profile: str) -> Doc:
    status, found = server.get(f"/api/profiles/{profile}")
    assert status == 200
    return found


@pytest.mark.parametrize("processes", [1, 2])
async def test_200_parallel_increments_are_200(start: Starts, processes: int) -> None:
    servers = [start() for _ in range(processes)]
    for number in range(ROUNDS):
        profiles = await send_at_once(servers, f"busy {number}", INCREMENTS)
        (profile,) = profiles
        for server in servers:
            found = read_profile(server, profile)
            assert found["stats"]["counters"] == {"seen": INCREMENTS}
            assert found["stats"]["visits"] == 1


@pytest.mark.parametrize("processes", [1, 2])
async def test_50_first_contacts_of_one_session_make_one_profile(start: Starts, processes: int) -> None:
    servers = [start() for _ in range(processes)]
    for number in range(ROUNDS):
        (profile,) = await send_at_once(servers, f"new {number}", CONNECTIONS)
        assert read_profile(servers[0], profile)["stats"]["counters"] == {"seen": CONNECTIONS}
    # One profile for each of the sessions, and none besides.
    status, page = servers[-1].get("/api/profiles?limit=50")
    assert status == 200
    assert len(page["items"]) == ROUNDS
