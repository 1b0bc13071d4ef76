"""Many say who they are at the same moment: one survivor, nothing lost, nothing twice."""

import asyncio
import os
from contextlib import AsyncExitStack
from typing import Any

import pytest

from headrace.engine.model import EventInput
from headrace.engine.timers.kinds import KINDS
from headrace.engine.timers.worker import TimerWorker
from tests.conftest import OpenLab
from tests.identity.people import FILES, files, living, session_of, sign_in, view, who
from tests.makers import Lab
from tests.stores import written

TIMES_BY = "HEADRACE_TEST_IDENTITY_TIMES"
TIMES = {("embedded", 1): 20, ("elastic", 1): 5}
"""How often in a row, on each store, by one engine; two do it three times."""

QUIET: dict[str, Any] = {"waiters_per_profile": 500, "outbox": False, "timers": False}


def times_of(store: str, engines: int) -> int:
    return int(os.environ.get(TIMES_BY) or TIMES.get((store, engines), 3))


async def engines(stack: AsyncExitStack, open_lab: OpenLab, number: int, workspace: Any = FILES) -> list[Lab]:
    """Return several engines, each with a store object of its own, on one place."""
    return [await stack.enter_async_context(open_lab(workspace, **QUIET)) for _ in range(number)]


async def settle(labs: list[Lab]) -> None:
    """Do what timers have to do, and let questions see what all have answered."""
    for lab in labs:
        await written(lab.store)
    await labs[0].settle()
    await TimerWorker(labs[0].engine.parts, KINDS).fire_due()
    await labs[0].settle()


async def check(lab: Lab, profile: str, sessions: list[str], events: int) -> None:
    """See that all is one profile's: every event counted once, every session and event its own after re-owning."""
    doc = await living(lab, profile)
    assert doc["stats"]["counters"]["n"] == events
    mine = [event for event in await lab.all("event") if event["profile"] == profile]
    assert len(mine) == events
    assert {(await session_of(lab, session))["profile"] for session in sessions} == {profile}


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("known", [True, False])
async def test_ten_say_the_same_address_at_once(
    open_lab: OpenLab, store_kind: str, number: int, *, known: bool
) -> None:
    async with AsyncExitStack() as stack:
        labs = await engines(stack, open_lab, number)
        times = times_of(store_kind, number)
        for time in range(times):
            mail = f"a{time}@example.com"
            sessions = [f"{time}/{session}" for session in range(10)]
            before = []
            if known:
                before = [await view(labs[0], session) for session in sessions]
            answers = await asyncio.gather(
                *(
                    sign_in(labs[place % number], session, email=mail)
                    for place, session in enumerate(sessions)
                )
            )
            await settle(labs)
            survivors = {(await living(labs[0], who(answer)))["id"] for answer in answers}
            assert len(survivors) == 1
            (survivor,) = survivors
            doc = await living(labs[0], survivor)
            assert doc["identities"] == {"email": [mail]}
            for profile in before:
                assert (await living(labs[0], profile))["id"] == survivor
                assert profile in doc["ids"]
            await check(labs[0], survivor, sessions, 20 if known else 10)
        assert len(await labs[0].all("profile")) == times
        assert all(len(lab.engine.parts.locks) == 0 for lab in labs)


@pytest.mark.parametrize("number", [1, 2])
async def test_each_says_the_address_of_the_other_at_once(
    open_lab: OpenLab, store_kind: str, number: int
) -> None:
    async with AsyncExitStack() as stack:
        labs = await engines(stack, open_lab, number, files(email={"per_profile": 3}))
        times = times_of(store_kind, number)
        for time in range(times):
            a, b = f"a{time}@example.com", f"b{time}@example.com"
            await sign_in(labs[0], f"{time}/a", email=a)
            await sign_in(labs[-1], f"{time}/b", email=b)
            answers = await asyncio.gather(
                sign_in(labs[0], f"{time}/a", email=b), sign_in(labs[-1], f"{time}/b", email=a)
            )
            await settle(labs)
            (survivor,) = {(await living(labs[0], who(answer)))["id"] for answer in answers}
            doc = await living(labs[0], survivor)
            assert sorted(doc["identities"]["email"]) == [a, b]
        assert len(await labs[0].all("profile")) == times


@pytest.mark.parametrize("number", [1, 2])
async def test_a_ring_of_addresses_at_once(open_lab: OpenLab, number: int) -> None:
    async with AsyncExitStack() as stack:
        labs = await engines(stack, open_lab, number, files(email={"per_profile": 10}))
        ring = list(range(5))
        for place in ring:
            await sign_in(labs[0], f"s{place}", email=f"m{place}@example.com")
        answers = await asyncio.gather(
            *(
                sign_in(labs[place % number], f"s{place}", email=f"m{(place + 1) % len(ring)}@example.com")
                for place in ring
            )
        )
        await settle(labs)
        (survivor,) = {(await living(labs[0], who(answer)))["id"] for answer in answers}
        await check(labs[0], survivor, [f"s{place}" for place in ring], 10)


@pytest.mark.parametrize("number", [1, 2])
async def test_a_session_that_goes_to_and_fro_loses_nothing(open_lab: OpenLab, number: int) -> None:
    """Two people sign in on one device while pages are viewed there: each event is one profile's, and counted there."""
    async with AsyncExitStack() as stack:
        labs = await engines(stack, open_lab, number)
        ann = who(await sign_in(labs[0], "home-ann", email="ann@example.com"))
        bob = who(await sign_in(labs[0], "home-bob", email="bob@example.com"))
        sent = []
        for turn in range(30):
            lab = labs[turn % number]
            if turn % 3:
                sent.append(lab.track(EventInput("page-view", id=f"view-{turn}"), session_id="tablet"))
            else:
                sent.append(sign_in(lab, "tablet", email=("ann" if turn % 2 else "bob") + "@example.com"))
        await asyncio.gather(*sent)
        await settle(labs)
        profiles = {doc["id"]: doc for doc in await labs[0].all("profile")}
        events = await labs[0].all("event")
        assert len(events) == 32
        assert len({event["id"] for event in events}) == 32
        for profile, doc in profiles.items():
            mine = [event for event in events if event["profile"] == profile]
            assert doc["stats"]["counters"].get("n", 0) == len(mine)
        # Before the first sign-in it may have been somebody else, who is anonymous.
        assert {ann, bob} <= set(profiles)
        assert len(profiles) <= 3
        session = await session_of(labs[0], "tablet")
        assert session["stats"]["events"] == 30
        assert session["profile"] in profiles
        assert profiles[ann]["identities"] == {"email": ["ann@example.com"]}
        assert profiles[bob]["identities"] == {"email": ["bob@example.com"]}
