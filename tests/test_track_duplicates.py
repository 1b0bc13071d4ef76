"""Events sent again: known, counted once, kept when they are others."""

from typing import Any

import pytest

from headrace.engine.model import Caller, EventInput, make_key
from tests.conftest import OpenLab
from tests.makers import Files, Lab, chain, count, sources

COUNT: Files = {"count": chain("*", count())}


def three() -> list[EventInput]:
    return [EventInput("x", {"n": number}, id=f"e{number}") for number in range(3)]


async def told(lab: Lab, *events: EventInput | str, **more: Any) -> dict[str, Any]:
    """Send a request and return the debugger's word on its events."""
    answer = await lab.track(*events, debugger=True, **more)
    assert answer.debugging is not None
    found: dict[str, Any] = answer.debugging["events"]
    return found


@pytest.mark.requirement("000-18")
async def test_a_whole_request_sent_again_writes_nothing(open_lab: OpenLab) -> None:
    async with open_lab(COUNT, debugger=True) as lab:
        first = await lab.track(*three(), context={"a": 1})
        before = await lab.rows()
        again = await lab.track(*three(), context={"a": 1}, debugger=True)
        assert await lab.rows() == before
        assert await lab.counter() == 3
        assert (again.profile, again.events, again.errors) == (first.profile, first.events, [])
        debugging = again.debugging
        assert debugging is not None
        assert debugging["events"]["duplicates"] == ["e0", "e1", "e2"]
        assert debugging["execution"] == {}
        assert [debugging[kind]["saved"] for kind in ("session", "events", "profile")] == [0, 0, 0]
        assert [debugging[kind]["ids"] for kind in ("session", "events", "profile")] == [[], [], []]


async def test_a_part_sent_again(open_lab: OpenLab) -> None:
    async with open_lab(COUNT, debugger=True) as lab:
        zero, one, two = three()
        await lab.track(one)
        found = await told(lab, zero, one, two)
        assert (found["ids"], found["duplicates"]) == (["e0", "e2"], ["e1"])
        assert await lab.counter() == 3


async def test_twice_within_one_request(open_lab: OpenLab) -> None:
    async with open_lab(COUNT, debugger=True) as lab:
        one = EventInput("x", id="e1")
        other = EventInput("x", {"other": 1}, id="e1")
        answer = await lab.track(one, one, other, debugger=True)
        assert answer.debugging is not None
        assert answer.debugging["events"]["ids"] == ["e1"]
        assert answer.debugging["events"]["duplicates"] == ["e1"]
        assert [error.code for error in answer.errors] == ["id_reused"]
        assert await lab.counter() == 1


async def test_the_same_from_another_session_is_a_duplicate_of_the_first_profile(open_lab: OpenLab) -> None:
    keyed = {"sources.json": sources(shop={"keys": [{"secret": "SHOP_KEY"}]})}
    async with open_lab(COUNT | keyed) as lab:
        first = await lab.track(EventInput("x", id="e1"), caller=Caller(secret="hush"))
        before = await lab.rows()
        again = await lab.track(EventInput("x", id="e1"), session_id="s2", caller=Caller(secret="hush"))
        assert again.profile == first.profile
        assert await lab.rows() == before


@pytest.mark.parametrize("session", ["s2", None, "own"])
async def test_who_guesses_an_id_is_not_told_whose_it_is(open_lab: OpenLab, session: str | None) -> None:
    async with open_lab(COUNT | {"sources.json": sources(shop={"answers_profile": True})}) as lab:
        own = await lab.track("y", session_id="own")
        first = await lab.track(EventInput("x", id="e1"))
        assert own.profile is not None
        before = await lab.rows()
        for more in ({}, {"profile_less": True}):
            again = await lab.track(EventInput("x", id="e1"), session_id=session, profile=True, **more)
            told = None if again.profile is None else again.profile["id"]
            assert told == (own.profile["id"] if session == "own" and not more else None)
        assert (await lab.track(EventInput("x", id="e1"))).profile == first.profile
        assert await lab.rows() == before


@pytest.mark.parametrize(
    "other",
    [
        EventInput("y", {"n": 1}, id="e1"),
        EventInput("x", {"n": 2}, id="e1"),
        EventInput("x", {"n": 1}, id="e1", time="2026-01-01T00:00:00Z"),
        EventInput("x", {"n": True}, id="e1"),
        EventInput("x", {"n": 1, "m": None}, id="e1"),
    ],
)
async def test_the_same_id_with_other_content_is_kept_among_the_failed(
    open_lab: OpenLab, other: EventInput
) -> None:
    async with open_lab(COUNT, debugger=True) as lab:
        await lab.track(EventInput("x", {"n": 1}, id="e1"))
        for _ in range(2):
            answer = await lab.track(other, debugger=True)
            assert [(error.event, error.code) for error in answer.errors] == [("e1", "id_reused")]
        assert await lab.counter() == 1
        failed = await lab.one("failed")
        assert (failed["code"], failed["event"], failed["raw"]["properties"]) == (
            "id_reused",
            "e1",
            other.properties,
        )
        assert len(await lab.all("event")) == 1


@pytest.mark.parametrize(
    "same",
    [
        EventInput("x", {"b": 2, "a": 1}, id="e1"),
        EventInput("x", {"a": 1, "b": 2}, {"other": "context"}, id="e1"),
        EventInput("x", {"a": 1, "b": 2}, id="e1", save=False),
    ],
)
async def test_what_stands_around_the_content_does_not_matter(open_lab: OpenLab, same: EventInput) -> None:
    async with open_lab(COUNT, debugger=True) as lab:
        await lab.track(EventInput("x", {"a": 1, "b": 2}, id="e1"))
        found = await told(lab, same, context={"page": "/other"})
        assert (found["duplicates"], found["errors"]) == (["e1"], [])
        assert await lab.all("failed") == []


async def test_without_an_id_nothing_is_a_duplicate(open_lab: OpenLab) -> None:
    async with open_lab(COUNT) as lab:
        for _ in range(2):
            await lab.track("x", "x")
        assert await lab.counter() == 4


async def test_an_idempotency_key_stands_for_ids(open_lab: OpenLab) -> None:
    async with open_lab(COUNT, debugger=True) as lab:
        first = await lab.track("x", "x", EventInput("x", id="own"), idempotency_key="k1")
        assert first.events == ["k1/0", "k1/1", "own"]
        found = await told(lab, "x", "x", EventInput("x", id="own"), idempotency_key="k1")
        assert found["duplicates"] == ["k1/0", "k1/1", "own"]
        await lab.track("x", idempotency_key="k2")
        assert await lab.counter() == 4
        # The same key for another request is told.
        answer = await lab.track("y", idempotency_key="k1")
        assert [error.code for error in answer.errors] == ["id_reused"]


async def test_an_idempotency_key_makes_a_collected_event_one(open_lab: OpenLab) -> None:
    async with open_lab({"make": chain("*", ("create_profile", {}), count())}) as lab:
        first = await lab.collect(EventInput("x", {"a": 1}), idempotency_key="k1")
        before = await lab.rows()
        again = await lab.collect(EventInput("x", {"a": 1}), idempotency_key="k1")
        assert first.profile is not None
        assert (again.profile, again.events) == (first.profile, first.events)
        assert await lab.rows() == before
        assert await lab.counter() == 1


async def test_ids_are_a_sources_own(open_lab: OpenLab) -> None:
    async with open_lab(COUNT | {"sources.json": sources(shop={}, till={})}) as lab:
        await lab.track(EventInput("x", id="e1"))
        await lab.track(EventInput("x", id="e1"), source="till")
        keys = {event["key"] for event in await lab.all("event")}
        assert keys == {make_key("event", "main", source, "e1") for source in ("shop", "till")}


async def test_a_duplicate_of_an_event_without_profile_makes_none(open_lab: OpenLab) -> None:
    async with open_lab(COUNT) as lab:
        await lab.collect(EventInput("x", id="e1"))
        before = await lab.rows()
        # The event is known, and nobody's: a profile that nothing was written of is not answered.
        answer = await lab.track(EventInput("x", id="e1"))
        assert answer.profile is None
        assert await lab.rows() == before


async def test_ids_and_values_as_they_come(open_lab: OpenLab) -> None:
    ids = ["items", "a/b", "ä😀", "'; --", "x" * 256, "\u202e"]
    values = {"big": 2**70, "float": 1e300, "deep": [[[{}]]], "__proto__": {"$": 1}}
    async with open_lab(COUNT, debugger=True) as lab:
        events = [EventInput("x", values, id=one) for one in ids]
        await lab.track(*events)
        found = await told(lab, *events)
        assert found["duplicates"] == ids
        assert [(event["id"], event["properties"]) for event in await lab.all("event")] == [
            (one, values) for one in ids
        ]
