"""A request from end to end: whom it belongs to, and what is kept."""

from typing import cast
from uuid import UUID

import pytest

from headrace.engine.errors import BusyError
from headrace.engine.model import Caller, EventInput, is_consented, make_key
from headrace.engine.request import Job, Wants
from headrace.engine.restart import Needs
from headrace.engine.track import MOST_NEEDS, next_wants
from tests.conftest import OpenLab
from tests.makers import Files, chain, count, sources

COUNT: Files = {"count": chain("*", count())}
KEYED: Files = {
    "sources.json": sources(
        shop={},
        backend={"keys": [{"secret": "SHOP_KEY"}], "trust_profile_ids": True},
        public={"trust_profile_ids": True},
    )
}


# Sessions and profiles


@pytest.mark.requirement("004-16")
@pytest.mark.requirement("004-17")
@pytest.mark.requirement("004-18")
@pytest.mark.requirement("004-19")
@pytest.mark.requirement("004-20")
async def test_a_first_contact_makes_a_profile_that_stays(open_lab: OpenLab) -> None:
    async with open_lab() as lab:
        first = await lab.track("page-view")
        assert first.profile is not None
        profile_id = first.profile["id"]
        assert UUID(profile_id).version == 4
        assert (await lab.track("page-view")).profile == {"id": profile_id}
        assert (await lab.track("page-view", session_id="s2", profile_id=profile_id)).profile == {
            "id": profile_id
        }
        assert (await lab.track("page-view", session_id="s3")).profile != {"id": profile_id}
        profiles = await lab.all("profile")
        assert [profile["stats"]["visits"] for profile in profiles] == [2, 1]
        assert [profile["stats"]["views"] for profile in profiles] == [3, 1]
        sessions = {session["id"]: session for session in await lab.all("session")}
        assert {name: session["stats"]["events"] for name, session in sessions.items()} == {
            "s1": 2,
            "s2": 1,
            "s3": 1,
        }
        assert sessions["s1"]["profile"] == sessions["s2"]["profile"] == profile_id
        events = await lab.all("event")
        assert [event["profile"] for event in events] == [profile_id] * 3 + [sessions["s3"]["profile"]]


@pytest.mark.requirement("004-21")
async def test_an_unknown_profile_id_is_not_adopted(open_lab: OpenLab) -> None:
    async with open_lab(KEYED) as lab:
        answer = await lab.track("x", profile_id="mine")
        assert answer.profile is not None
        assert answer.profile["id"] != "mine"
        # The permission means nothing to a source without a key.
        answer = await lab.track("x", source="public", session_id="s2", profile_id="mine")
        assert answer.profile is not None
        assert answer.profile["id"] != "mine"


@pytest.mark.requirement("004-21")
async def test_a_source_with_a_key_may_choose_profile_ids(open_lab: OpenLab) -> None:
    async with open_lab(KEYED) as lab:
        caller = Caller(secret="hush")
        for session in ("s1", "s2"):
            answer = await lab.track(
                "x", source="backend", session_id=session, profile_id="mine", caller=caller
            )
            assert answer.profile == {"id": "mine"}
        assert (await lab.one("profile"))["stats"]["visits"] == 2


async def test_a_session_keeps_its_profile(open_lab: OpenLab) -> None:
    async with open_lab() as lab:
        first = (await lab.track("x", session_id="s1")).profile
        other = (await lab.track("x", session_id="s2")).profile
        assert first is not None
        assert other is not None
        assert (await lab.track("x", session_id="s1", profile_id=other["id"])).profile == first


async def test_tenants_do_not_cross(open_lab: OpenLab) -> None:
    files = COUNT | {"sources.json": sources(shop={}, theirs={"tenant": "other"})}
    async with open_lab(files) as lab:
        mine = (await lab.track(EventInput("x", id="e1"))).profile
        theirs = (await lab.track(EventInput("x", id="e1"), source="theirs")).profile
        assert mine is not None
        assert theirs is not None
        assert mine != theirs
        # The id of another tenant's profile is unknown here.
        assert (
            await lab.track("x", source="theirs", session_id="s2", profile_id=mine["id"])
        ).profile not in (mine, theirs)
        assert [event["tenant"] for event in await lab.all("event")] == ["main"]
        assert len(await lab.all("event", "other")) == 2
        assert await lab.counter() == 1
        assert (await lab.engine.story("other", make_key("event", "main", "shop", "e1"))) is None


async def test_one_id_from_two_sources_is_two_events(open_lab: OpenLab) -> None:
    async with open_lab(COUNT | {"sources.json": sources(shop={}, till={})}) as lab:
        for source in ("shop", "till"):
            await lab.track(EventInput("x", id="e1"), source=source)
        assert await lab.counter() == 2


@pytest.mark.requirement("004-22")
@pytest.mark.requirement("004-23")
@pytest.mark.requirement("004-24")
async def test_context_and_properties_go_to_session_and_event(open_lab: OpenLab) -> None:
    async with open_lab() as lab:
        await lab.track(
            EventInput("x", {"deep": [{"a.b": None}]}, {"weather": "rain"}),
            context={"device": "iPhone X"},
            properties={"plan": [1]},
        )
        await lab.track("y", context={"lang": "da"})
        event, second = await lab.all("event")
        assert event["properties"] == {"deep": [{"a.b": None}]}
        assert event["context"] == {"device": "iPhone X", "weather": "rain"}
        assert second["context"] == {"lang": "da"}
        session = await lab.one("session")
        assert (session["context"], session["properties"]) == (
            {"device": "iPhone X", "lang": "da"},
            {"plan": [1]},
        )


async def test_what_a_node_writes_into_the_session_is_not_the_events(open_lab: OpenLab) -> None:
    files = {"w": chain("*", count("session.context.seen.n"))}
    async with open_lab(files) as lab:
        await lab.track("x", "y", context={"seen": {"n": 1}})
        assert (await lab.one("session"))["context"] == {"seen": {"n": 3}}
        assert [event["context"] for event in await lab.all("event")] == [{"seen": {"n": 1}}] * 2


# Events of one request


@pytest.mark.requirement("004-13")
async def test_events_are_kept_in_order_and_see_each_other(open_lab: OpenLab) -> None:
    branch = chain(
        "y", ("branch", {"when": "profile.stats.counters.n == 2"}), ("add_segment", {"segment": "vip"})
    )
    async with open_lab({"count": chain("x", count()), "later": branch}) as lab:
        answer = await lab.track("x", "x", "y", profile=True)
        assert answer.profile is not None
        assert answer.profile["segments"] == ["vip"]
        events = await lab.all("event")
        assert [event["type"] for event in events] == ["x", "x", "y"]
        assert [event["id"] for event in events] == answer.events


async def test_reads_see_earlier_events_of_the_request(open_lab: OpenLab) -> None:
    async with open_lab({"past": chain("*", ("past", {}))}) as lab:
        await lab.track(EventInput("x", id="e1"))
        await lab.settle()
        answer = await lab.track(EventInput("x", id="e2"), EventInput("x", id="e3"))
        assert answer.response["e2"] == {"count": 1, "ids": ["e1"]}
        assert answer.response["e3"] == {"count": 2, "ids": ["e2", "e1"]}


async def test_no_events_make_session_and_profile(open_lab: OpenLab) -> None:
    async with open_lab() as lab:
        answer = await lab.track(debugger=True)
        assert answer.events == []
        assert answer.profile == {"id": (await lab.one("profile"))["id"]}
        assert (await lab.one("session"))["profile"] == answer.profile["id"]
        assert await lab.all("event") == []
        before = await lab.rows()
        assert (await lab.track()).profile == answer.profile
        assert await lab.rows() == before


@pytest.mark.requirement("004-4")
async def test_types_are_kept_as_they_were_sent(open_lab: OpenLab) -> None:
    async with open_lab() as lab:
        types = ["product purchase", "items", "get", "__proto__", "a.b", "ä\u202e"]
        await lab.track(*types)
        assert [event["type"] for event in await lab.all("event")] == types


# What is saved


@pytest.mark.requirement("004-30")
@pytest.mark.requirement("004-36")
async def test_events_that_are_not_to_be_saved_run_and_leave_a_mark(open_lab: OpenLab) -> None:
    async with open_lab(COUNT, debugger=True) as lab:
        for expected in (["e1"], []):
            answer = await lab.track(EventInput("x", id="e1"), save_events=False, debugger=True)
            assert answer.debugging is not None
            assert (answer.debugging["events"]["saved"], answer.debugging["events"]["duplicates"]) == (
                0,
                [] if expected else ["e1"],
            )
            assert await lab.counter() == 1
        assert await lab.all("event") == []
        # Without an id there is nothing to remember.
        await lab.track("x", save_events=False)
        assert (await lab.counter(), len((await lab.rows())["events"])) == (2, 1)


async def test_one_event_of_several_may_be_left_out(open_lab: OpenLab) -> None:
    async with open_lab(COUNT) as lab:
        for _ in range(2):
            await lab.track(EventInput("x", id="e1", save=False), EventInput("x", id="e2"))
        assert [event["id"] for event in await lab.all("event")] == ["e2"]
        assert await lab.counter() == 2


@pytest.mark.requirement("004-29")
async def test_a_session_that_is_not_to_be_saved_is_known_and_not_found(open_lab: OpenLab) -> None:
    async with open_lab(debugger=True) as lab:
        answer = await lab.track("x", save_session=False, debugger=True, context={"secret": 1})
        assert answer.debugging is not None
        assert answer.debugging["session"] == {"saved": 0, "errors": [], "ids": [], "types": []}
        assert await lab.all("session") == []
        assert (await lab.track("x", save_session=False)).profile == answer.profile
        # Saved later, it is that visit, without what was not to be kept.
        assert (await lab.track("x")).profile == answer.profile
        session = await lab.one("session")
        assert {"id": session["profile"]} == answer.profile
        assert (session["context"], session["stats"]["events"]) == ({}, 1)
        assert (await lab.one("profile"))["stats"]["visits"] == 1


async def test_a_saved_session_stays_as_it_was_when_a_request_does_not_save_it(open_lab: OpenLab) -> None:
    async with open_lab() as lab:
        await lab.track("x", context={"a": 1})
        before = await lab.one("session")
        await lab.track("x", context={"b": 1}, save_session=False)
        assert await lab.one("session") == before


async def test_a_session_without_profile_gets_its_first_one_even_if_not_saved(open_lab: OpenLab) -> None:
    async with open_lab() as lab:
        await lab.track("x", profile_less=True)
        before = await lab.one("session")
        first = (await lab.track("x", save_session=False, context={"b": 1})).profile
        assert first is not None
        assert (await lab.track("x")).profile == first
        session = await lab.one("session")
        assert (session["profile"], session["context"]) == (first["id"], before["context"])


# What must not be lost, and what must not stay


@pytest.mark.parametrize("field", ["profile['stats'].counters.n", "profile['stats']['counters']['n']"])
async def test_a_write_counts_however_its_path_is_written(open_lab: OpenLab, field: str) -> None:
    node = ("increment", {"field": field})
    async with open_lab({"count": chain("*", node)}) as lab:
        for _ in range(3):
            await lab.track("x")
        assert await lab.counter() == 3


async def test_erasing_a_profile_leaves_no_trace_of_it(open_lab: OpenLab) -> None:
    files = {"sources.json": sources(shop={"trace": True}), **COUNT}
    async with open_lab(files) as lab:
        answer = await lab.track("x")
        await lab.engine.parts.keeper.flush()
        assert len(await lab.all("trace")) == 1
        assert answer.profile is not None
        await lab.store.erase("main", answer.profile["id"])
        assert await lab.all("trace") == []


async def test_a_session_stays_of_a_bounded_size(open_lab: OpenLab) -> None:
    async with open_lab(COUNT) as lab:
        await lab.track("x", context={"kept": 1})
        await lab.track("x", context={"large": "x" * 300_000})
        assert (await lab.one("session"))["context"] == {"kept": 1}
        assert (await lab.all("event"))[1]["context"]["large"]


@pytest.mark.parametrize(
    ("until", "holds"),
    [
        (None, True),
        ("2026-01-15T13:00:00+00:00", True),
        ("2026-01-15T13:00:00+02:00", False),
        ("2026-01-15", False),
        ("31.12.2090", False),
        (7, False),
    ],
)
def test_a_consent_whose_end_cannot_be_read_fails_closed(until: object, holds: bool) -> None:
    profile = {"consents": {"mail": {"given": True, "until": until}}}
    assert is_consented(profile, "mail", "2026-01-15T12:00:00.000Z") is holds


def test_an_event_may_ask_for_other_locks_a_few_times_only() -> None:
    job = cast("Job", None)
    wants = Wants()
    for number in range(MOST_NEEDS):
        wants = next_wants(job, wants, Needs(profile=f"p{number}"))
    with pytest.raises(BusyError, match="in turn"):
        next_wants(job, wants, Needs(profile="p"))
