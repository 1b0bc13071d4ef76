"""A request from end to end: who it belongs to, what is kept, what is answered."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from conftest import OpenLab
from makers import Files, chain, count, make_request, sources

from headrace.engine.errors import BusyError, InputError
from headrace.engine.model import Caller, EventInput, iso, make_key
from headrace.engine.passage import MAX_NODE_RUNS

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
        before = lab.rows()
        assert (await lab.track()).profile == answer.profile
        assert lab.rows() == before


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
        assert (await lab.counter(), len(lab.rows()["events"])) == (2, 1)


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
        assert (session["context"], session["profile"], session["stats"]["events"]) == (
            {},
            answer.profile["id"],
            1,
        )  # type: ignore[index]
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


# Times


RECEIVED = datetime(2026, 1, 15, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("time", "sent_at", "happened"),
    [
        (None, None, "2026-01-15T12:00:00.000Z"),
        ("2026-01-15T11:59:00Z", None, "2026-01-15T11:59:00.000Z"),
        ("2026-01-15T13:59:00+02:00", None, "2026-01-15T11:59:00.000Z"),
        ("2026-01-15T11:59:00.123456", None, "2026-01-15T11:59:00.123Z"),
        ("2026-01-15", None, "2026-01-15T00:00:00.000Z"),
        # The client's clock is an hour ahead.
        ("2026-01-15T12:59:00Z", "2026-01-15T13:00:00Z", "2026-01-15T11:59:00.000Z"),
        # Ahead, behind, and far from anything.
        ("2026-01-15T12:04:59Z", None, "2026-01-15T12:04:59.000Z"),
        ("2026-01-15T12:06:00Z", None, "2026-01-15T12:05:00.000Z"),
        ("9999-12-31T23:59:59Z", None, "2026-01-15T12:05:00.000Z"),
        ("2020-01-01T00:00:00Z", None, "2024-12-11T12:00:00.000Z"),
        ("0001-01-01T00:00:00Z", None, "2024-12-11T12:00:00.000Z"),
        ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2024-12-11T12:00:00.000Z"),
        ("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2026-01-15T12:05:00.000Z"),
        ("2026-01-15T12:00:00Z", "0001-01-01T00:00:00Z", "2026-01-15T12:05:00.000Z"),
        ("2026-01-15T12:00:00Z", "9999-12-31T23:59:59Z", "2024-12-11T12:00:00.000Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z", "2026-01-15T12:00:00.000Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "2026-01-15T12:00:00.000Z"),
    ],
)
async def test_times(open_lab: OpenLab, time: str | None, sent_at: str | None, happened: str) -> None:
    async with open_lab() as lab:
        await lab.track(EventInput("x", time=time), received=RECEIVED, sent_at=sent_at)
        found = (await lab.one("event"))["time"]
        assert (found["happened"], found["received"]) == (happened, iso(RECEIVED))
        assert found.get("claimed") == time


@pytest.mark.parametrize(
    "time", ["yesterday", "", "12:00", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00", "\0"]
)
@pytest.mark.parametrize("member", ["time", "sent_at"])
async def test_a_time_that_cannot_be_read_refuses_the_request(
    open_lab: OpenLab, time: str, member: str
) -> None:
    async with open_lab() as lab:
        bad = EventInput("x", time=time if member == "time" else None)
        with pytest.raises(InputError) as caught:
            await lab.track("good", bad, sent_at=time if member == "sent_at" else None)
        assert caught.value.status == 422
        assert caught.value.fields[0].pointer == ("/events/1/time" if member == "time" else "/sentAt")
        assert not any(lab.rows().values())


# Who may send


@pytest.mark.requirement("004-14")
@pytest.mark.parametrize(
    ("words", "status"),
    [
        ({"source": "nobody"}, 401),
        ({"source": "off"}, 401),
        ({"source": "keyed"}, 401),
        ({"source": "keyed", "caller": Caller(secret="wrong")}, 401),
        ({"source": "shop", "door": "segment"}, 403),
        ({"source": "site", "caller": Caller(origin="https://evil.example")}, 403),
    ],
)
async def test_who_may_not_send(open_lab: OpenLab, words: dict[str, Any], status: int) -> None:
    files = {
        "sources.json": sources(
            shop={},
            off={"enabled": False},
            keyed={"keys": [{"secret": "SHOP_KEY"}]},
            site={"origins": ["https://shop.example"]},
        )
    }
    async with open_lab(files) as lab:
        with pytest.raises(InputError) as caught:
            await lab.track("x", **words)
        assert caught.value.status == status
        assert not any(lab.rows().values())
        await lab.track("x", source="keyed", caller=Caller(secret="hush"))
        await lab.track("x", source="site", caller=Caller(origin="https://shop.example"))


async def test_a_rate_limit_is_per_source(open_lab: OpenLab) -> None:
    async with open_lab({"sources.json": sources(shop={"rate_limit": "2/minute"}, other={})}) as lab:
        for _ in range(2):
            await lab.track("x")
        with pytest.raises(InputError) as caught:
            await lab.track("x")
        assert caught.value.status == 429
        assert 1 <= (caught.value.retry_after_seconds or 0) <= 60
        await lab.track("x", source="other")
        assert len(await lab.all("event")) == 3


GOOGLE = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


@pytest.mark.parametrize(
    ("caller", "why"),
    [
        (Caller(do_not_track=True), "dnt"),
        (Caller(user_agent=GOOGLE), "bot"),
        (Caller(user_agent="Mozilla/5.0"), ""),
    ],
)
async def test_nothing_is_kept_of_those_who_do_not_want_it(
    open_lab: OpenLab, caller: Caller, why: str
) -> None:
    async with open_lab({"sources.json": sources(shop={"bots": "drop"})}) as lab:
        answer = await lab.track("x", caller=caller)
        assert answer.not_kept == why
        assert any(lab.rows().values()) == (why == "")
        assert (answer.profile is None) == (why != "")


async def test_bots_are_marked_and_addresses_masked(open_lab: OpenLab) -> None:
    async with open_lab() as lab:
        await lab.track(
            "x", caller=Caller(ip="192.0.2.77", user_agent=GOOGLE, referrer="https://shop.example/a?b")
        )
        event = await lab.one("event")
        assert event["device"] == {"ip": "192.0.2.0", "bot": True}
        assert event["page"] == {"url": "https://shop.example/a?b", "path": "/a"}


@pytest.mark.requirement("004-51")
async def test_the_source_says_whether_consent_is_wanted(open_lab: OpenLab) -> None:
    async with open_lab({"sources.json": sources(shop={"consent": True}, other={})}) as lab:
        assert (await lab.track("x")).consent is True
        assert (await lab.track("x", source="other")).consent is False


# What is answered


@pytest.mark.requirement("004-28")
async def test_how_much_of_a_profile_is_answered(open_lab: OpenLab) -> None:
    files = {
        "sources.json": sources(
            shop={"public_traits": ["name", "gone"]},
            open={"answers_profile": True},
            keyed={"keys": [{"secret": "SHOP_KEY"}]},
        ),
        "w": chain(
            "*", ("set_fields", {"fields": {"profile.traits.name": "Ann", "profile.traits.mail": "a@b.c"}})
        ),
    }
    async with open_lab(files) as lab:
        answer = await lab.track("x", profile=True)
        assert answer.profile is not None
        assert answer.profile == {"id": answer.profile["id"], "segments": [], "traits": {"name": "Ann"}}
        assert (await lab.track("x")).profile == {"id": answer.profile["id"]}
        stored = await lab.one("profile")
        assert (await lab.track(source="open", profile=True)).profile == stored
        assert (await lab.track(source="keyed", profile=True, caller=Caller(secret="hush"))).profile == stored


@pytest.mark.requirement("004-27")
@pytest.mark.parametrize(
    ("words", "settings", "allowed"),
    [
        ({}, {}, False),
        ({}, {"debugger": True}, True),
        ({"source": "open"}, {}, True),
        ({"caller": Caller(admin=True)}, {}, True),
    ],
)
async def test_who_may_debug(
    open_lab: OpenLab, words: dict[str, Any], settings: dict[str, Any], allowed: bool
) -> None:
    async with open_lab({"sources.json": sources(shop={}, open={"debugger": True})}, **settings) as lab:
        answer = await lab.track("x", debugger=True, **words)
        assert (answer.debugging is not None, answer.debugger_refused) == (allowed, not allowed)
        answer = await lab.track("x", **words)
        assert (answer.debugging, answer.debugger_refused) == (None, False)


@pytest.mark.requirement("004-31")
@pytest.mark.requirement("004-32")
@pytest.mark.requirement("004-33")
@pytest.mark.requirement("004-34")
@pytest.mark.requirement("004-35")
async def test_the_shape_of_debugging(open_lab: OpenLab) -> None:
    logs = chain("x", ("log", {"message": "hello {{ event.type }}"}), ("add_segment", {"segment": "vip"}))
    async with open_lab(
        {"greet": logs, "never": chain("x", count(), on={"when": "false"})}, debugger=True
    ) as lab:
        answer = await lab.track("x", "y", debugger=True)
        told = answer.debugging
        assert told is not None
        assert answer.profile is not None
        assert told["session"] == {"saved": 1, "errors": [], "ids": ["s1"], "types": []}
        assert told["profile"] == {"saved": 1, "errors": [], "ids": [answer.profile["id"]], "types": []}
        assert told["events"] == {
            "saved": 2,
            "errors": [],
            "ids": answer.events,
            "types": ["x", "y"],
            "duplicates": [],
        }
        assert told["segmentation"] == {"errors": [], "ids": ["vip"]}
        assert told["logs"] == [{"level": "info", "message": "hello x", "workflow": "greet", "node": "n0"}]
        assert list(told["execution"]) == ["x"]
        ran, skipped = told["execution"]["x"]
        assert (ran["workflow"], ran["path"], ran["event"]) == ("greet", ["n0", "n1"], answer.events[0])
        assert skipped == {"workflow": "never", "event": answer.events[0], "skipped": "condition false"}


# Which workflows run


async def test_consent_order_and_stop(open_lab: OpenLab) -> None:
    give = ("set_consent", {"consent": "marketing", "given": True})
    says: list[tuple[str, dict[str, Any]]] = [
        ("append_value", {"field": "profile.traits.ran", "value": name}) for name in "abcde"
    ]
    files = {
        "z-first": chain("x", says[0], order=-1),
        "gated": chain("x", says[1], on={"consent": ["marketing"]}),
        "gives": chain("x", give, order=1),
        "gated-later": chain("x", says[2], on={"consent": ["marketing"]}, order=2),
        "stops": chain("x", says[3], order=3, stop=True, on={"when": "event.properties.stop"}),
        "last": chain("x", says[4], order=4),
    }
    async with open_lab(files) as lab:
        await lab.track(EventInput("x"))
        assert (await lab.one("profile"))["traits"]["ran"] == ["a", "c", "e"]
        await lab.track(EventInput("x", {"stop": True}))
        assert (await lab.one("profile"))["traits"]["ran"] == ["a", "c", "e", "a", "b", "c", "d"]
        first, second = await lab.all("event")
        skipped = [
            {run["workflow"]: run["skipped"] for run in event["runs"] if "skipped" in run}
            for event in (first, second)
        ]
        assert skipped == [{"gated": "consent", "stops": "when"}, {"last": "stopped"}]


async def test_a_node_may_stop_later_workflows(open_lab: OpenLab) -> None:
    files = {
        "a": chain("x", ("stop", {"event": True}), count()),
        "b": chain("x", count()),
        "c": chain("x", count(), enabled=False),
        "d": chain("x", count(), on={"source": ["other"]}),
        "sources.json": sources(shop={}, other={}),
    }
    async with open_lab(files) as lab:
        await lab.track("x")
        assert await lab.counter() == 0
        runs = {run["workflow"]: run.get("skipped") for run in (await lab.one("event"))["runs"]}
        assert runs == {"a": None, "b": "stopped", "c": "disabled", "d": "stopped"}


async def test_a_condition_that_cannot_be_evaluated_is_told(open_lab: OpenLab) -> None:
    when = "event.properties.x | replace('a', 'aaaaaaaaaaaaaaaa') | length > 1"
    async with open_lab({"w": chain("x", count(), on={"when": when})}, debugger=True) as lab:
        answer = await lab.track(EventInput("x", {"x": "a" * 200_000}), debugger=True)
        assert answer.debugging is not None
        (line,) = answer.debugging["logs"]
        assert line["workflow"] == "w"
        assert line["message"].startswith("on.when: ")
        assert await lab.counter() == 0


async def test_events_emit_events_three_deep(open_lab: OpenLab) -> None:
    files = {"emits": chain("*", count(), ("emit", {"given": ["inner"]}))}
    async with open_lab(files, debugger=True) as lab:
        answer = await lab.track("outer", debugger=True)
        assert await lab.counter() == 4
        outer, *inner = await lab.all("event")
        assert [event["type"] for event in inner] == ["inner"] * 3
        assert [event["emitted_by"] for event in inner] == [outer["id"], inner[0]["id"], inner[1]["id"]]
        assert {event["door"] for event in inner} == {"internal"}
        assert inner[-1]["errors"] == ["n1: events may emit events 3 deep; this would be 4"]
        assert answer.events == [outer["id"]]


async def test_an_event_sent_again_emits_nothing_new(open_lab: OpenLab) -> None:
    files = {
        "emits": chain("x", ("emit", {"given": ["y", "y"]}), ("defer", {})),
        "count": chain("y", count()),
    }
    async with open_lab(files) as lab:
        await lab.track(EventInput("x", id="e1"))
        before = lab.rows()
        await lab.track(EventInput("x", id="e1"))
        assert lab.rows() == before
        assert await lab.counter() == 2
        assert (len(await lab.all("event")), len(await lab.all("effect")), len(await lab.all("timer"))) == (
            3,
            1,
            1,
        )


async def test_the_budget_bounds_all_that_an_event_causes(open_lab: OpenLab) -> None:
    # Each event makes 30 more, three deep: 27,930 node runs if nothing ended it.
    files = {"emits": chain("*", ("emit", {"given": ["again"] * 30}))}
    async with open_lab(files, debugger=True) as lab:
        answer = await lab.track("x", debugger=True)
        assert answer.debugging is not None
        runs = [run for traces in answer.debugging["execution"].values() for run in traces]
        assert sum(len(run["path"]) for run in runs) == MAX_NODE_RUNS
        assert runs[-1]["error"] == "stopped: the event has used all of its node runs"


# Failures


async def test_events_that_break_their_schema_are_kept_among_the_failed(open_lab: OpenLab) -> None:
    schema = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}
    files = COUNT | {"event_types.json": {"event_types": {"order": {"schema": schema}, "x": {}}}}
    async with open_lab(files, debugger=True) as lab:
        answer = await lab.track(
            EventInput("order", id="bad"), EventInput("order", {"total": 1}), "x", debugger=True
        )
        assert [(error.event, error.code) for error in answer.errors] == [("bad", "schema")]
        assert "total" in answer.errors[0].message
        failed = await lab.one("failed")
        assert (failed["event"], failed["code"], failed["raw"]["type"]) == ("bad", "schema", "order")
        assert failed["reasons"][0]["pointer"] == "/properties"
        assert await lab.counter() == 2
        assert answer.debugging is not None
        assert answer.debugging["events"]["saved"] == 2
        assert len(answer.debugging["events"]["errors"]) == 1
        # Sent again it is refused again, and kept once; put right it is taken.
        await lab.track(EventInput("order", id="bad"))
        assert len(await lab.all("failed")) == 1
        await lab.track(EventInput("order", {"total": 2}, id="bad"))
        assert await lab.counter() == 3


async def test_a_fault_of_the_engine_fails_one_event_only(
    open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headrace.engine.steps import process  # noqa: PLC0415

    def breaks(passage: Any) -> None:
        if passage.event["type"] == "bad":
            passage.draft.profile["traits"]["half"] = "done"
            raise RuntimeError("a bug of ours")

    async with open_lab(COUNT, debugger=True) as lab:
        monkeypatch.setattr(process.goals, "evaluate_goals", breaks)
        answer = await lab.track("x", EventInput("bad", {"keep": "me"}, id="e1"), "x", debugger=True)
        assert [(error.event, error.code) for error in answer.errors] == [("e1", "engine_fault")]
        assert "a bug of ours" not in answer.errors[0].message
        assert await lab.counter() == 2
        assert (await lab.one("profile"))["traits"] == {}
        failed = await lab.one("failed")
        assert (failed["code"], failed["raw"]["properties"]) == ("engine_fault", {"keep": "me"})
        assert failed["reasons"][0]["message"] == "RuntimeError: a bug of ours"
        assert len(await lab.all("event")) == 2
        # Put right, the event is taken when it is sent again.
        monkeypatch.undo()
        assert (await lab.track(EventInput("bad", {"keep": "me"}, id="e1"))).errors == []
        assert await lab.counter() == 3


async def test_a_failed_node_loses_nothing(open_lab: OpenLab) -> None:
    files = {
        "breaks": chain("x", count(), ("fail", {"message": "no {{ event.type }}"})),
        "next": chain("x", count()),
    }
    async with open_lab(files) as lab:
        answer = await lab.track("x")
        assert answer.errors == []
        assert await lab.counter() == 2
        assert (await lab.one("event"))["errors"] == ["n1: no x"]


# Bounds


async def test_a_request_that_takes_too_long_is_refused_and_can_be_sent_again(open_lab: OpenLab) -> None:
    files = {"slow": chain("slow", ("slow", {"given": 5})), "count": chain("*", count())}
    async with open_lab(files, request_deadline_seconds=0.2) as lab:
        with pytest.raises(BusyError):
            await lab.track(EventInput("x", id="e1"), EventInput("slow", id="e2"))
        assert not any(lab.rows().values())
        assert len(lab.engine.parts.locks) == 0
        await lab.track(EventInput("x", id="e1"))
        assert await lab.counter() == 1


async def test_waiters_are_bounded(open_lab: OpenLab) -> None:
    files = {"slow": chain("slow", ("slow", {"given": 0.3})), "count": chain("*", count())}
    async with open_lab(files, waiters_per_profile=100) as lab:
        await lab.track()
        first = asyncio.create_task(lab.engine.track(make_request("slow")))
        await asyncio.sleep(0.05)
        waiting = [asyncio.create_task(lab.engine.track(make_request("x"))) for _ in range(100)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="100 requests wait"):
            await lab.track("x")
        await asyncio.gather(first, *waiting)
        assert await lab.counter() == 101
        assert len(lab.engine.parts.locks) == 0


async def test_a_client_that_goes_away_gives_its_place_free(open_lab: OpenLab) -> None:
    files = {"slow": chain("slow", ("slow", {"given": 0.2})), "count": chain("*", count())}
    async with open_lab(files) as lab:
        tasks = [
            asyncio.create_task(lab.engine.track(make_request(name))) for name in ("slow", "x", "x", "x")
        ]
        await asyncio.sleep(0.05)
        tasks[1].cancel()
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await lab.counter() == 2
        assert len(lab.engine.parts.locks) == 0
