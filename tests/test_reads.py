"""What nodes may look up: the store, and what this request did before."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headrace.engine.draft import Draft
from headrace.engine.model import EventInput, iso
from headrace.engine.reads import StoreReads
from tests.conftest import OpenLab
from tests.makers import Lab, chain, sources

NOW = datetime(2026, 1, 15, 12, 0, 0, tzinfo=UTC)


async def reads_of(lab: Lab, tenant: str = "main") -> StoreReads:
    """Return the reads of a request of the only profile."""
    draft = Draft(tenant, iso(NOW))
    profile = await lab.one("profile")
    draft.use_profile(profile, (1, 0))
    return StoreReads(lab.store, draft, NOW)


def at(days: float) -> str:
    return iso(NOW - timedelta(days=days))


async def fill(lab: Lab) -> None:
    """Keep events of two types, which did not happen in the order in which they came."""
    for name, kind, days in (("e1", "x", 3.0), ("e2", "y", 1.0), ("e3", "x", 2.0), ("e4", "x", 0.5)):
        await lab.track(EventInput(kind, id=name, time=at(days)), received=NOW)
    await lab.track(EventInput("x", id="other"), session_id="s2", profile_less=True, received=NOW)
    await lab.settle()


async def test_past_events_the_last_that_came_first(open_lab: OpenLab) -> None:
    async with open_lab() as lab:
        await fill(lab)
        reads = await reads_of(lab)

        async def ids(event_type: str | None = None, days: float | None = None, limit: int = 10) -> list[str]:
            within = None if days is None else timedelta(days=days)
            found = await reads.find_events(type=event_type, within=within, limit=limit)
            number = await reads.count_events(type=event_type, within=within)
            assert number == len(found) or limit < number
            return [event["id"] for event in found]

        assert await ids() == ["e4", "e3", "e2", "e1"]
        assert await ids("x") == ["e4", "e3", "e1"]
        assert await ids("x", 2) == ["e4", "e3"]
        assert await ids(None, 1.5) == ["e4", "e2"]
        assert await ids("none") == []
        assert await ids("x", limit=1) == ["e4"]


async def test_without_a_profile_there_is_no_past(open_lab: OpenLab) -> None:
    async with open_lab() as lab:
        await fill(lab)
        reads = StoreReads(lab.store, Draft("main", iso(NOW)), NOW)
        assert await reads.find_events(type=None, within=None, limit=10) == []
        assert await reads.count_events(type=None, within=None) == 0


async def test_profiles_by_id_and_session_within_the_tenant(open_lab: OpenLab) -> None:
    async with open_lab({"sources.json": sources(shop={}, theirs={"tenant": "other"})}) as lab:
        await fill(lab)
        reads = await reads_of(lab)
        who = (await lab.one("profile"))["id"]
        for found in (await reads.find_profile(id=who), await reads.find_profile(session="s1")):
            assert found is not None
            assert found["id"] == who
        for words in ({"id": "nobody"}, {"session": "s2"}, {"session": "nobody"}, {"id": ""}):
            assert await reads.find_profile(**words) is None
        theirs = StoreReads(lab.store, Draft("other", iso(NOW)), NOW)
        assert await theirs.find_profile(id=who) is None
        assert await theirs.find_profile(session="s1") is None
        assert await theirs.count_events(type=None, within=None) == 0


@pytest.mark.parametrize("times", [(3.0, 2.0, 1.0), (1.0, 2.0, 3.0)])
async def test_events_of_the_request_and_of_the_store_are_one_past(open_lab: OpenLab, times: Any) -> None:
    async with open_lab({"past": chain("*", ("past", {}))}) as lab:
        await lab.track(EventInput("x", id="e1", time=at(times[0])), received=NOW)
        await lab.settle()
        sent = [EventInput("x", id=f"e{n}", time=at(days)) for n, days in ((2, times[1]), (3, times[2]))]
        answer = await lab.track(*sent, "last", received=NOW)
        assert answer.response[answer.events[-1]] == {"count": 3, "ids": ["e3", "e2", "e1"]}


async def test_events_that_are_not_saved_are_no_past(open_lab: OpenLab) -> None:
    async with open_lab({"past": chain("*", ("past", {}))}) as lab:
        answer = await lab.track(EventInput("x", save=False), EventInput("y", id="last"))
        assert answer.response["last"] == {"count": 0, "ids": []}


async def test_what_an_event_emits_has_it_in_its_past(open_lab: OpenLab) -> None:
    files = {"emits": chain("x", ("emit", {"given": ["inner"]})), "past": chain("inner", ("past", {}))}
    async with open_lab(files) as lab:
        answer = await lab.track(EventInput("x", id="e1"))
        (told,) = answer.response.values()
        assert told == {"count": 1, "ids": ["e1"]}


async def test_a_profile_of_this_request_is_found_as_it_is_now(open_lab: OpenLab) -> None:
    async with open_lab() as lab:
        draft = Draft("main", iso(NOW))
        made = draft.create_profile()
        draft.sessions["s9"] = None
        draft.join_session("s9", "shop")
        draft.link_session()
        reads = StoreReads(lab.store, draft, NOW)
        assert await reads.find_profile(id=made["id"]) is made
        assert await reads.find_profile(session="s9") is made
