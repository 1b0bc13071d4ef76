"""Events without a profile, and workflows that give them one."""

from typing import Any

import pytest

from headrace.engine.model import EventInput
from tests.conftest import OpenLab
from tests.makers import Files, Lab, chain, count

LOAD = ("load_profile", {"id": "{{ event.properties.who }}"})
BY_SESSION = ("load_profile", {"session": "{{ event.properties.session }}"})
ATTACH = ("attach_session", {"id": "{{ event.properties.session }}"})
FILES: Files = {
    "load": chain("coupon", LOAD, count()),
    "by-session": chain("call", BY_SESSION, count()),
    "make": chain("lead", ("create_profile", {}), count()),
    "join": chain("chat", ATTACH, count()),
}


def coupon(who: str, name: str | None = None) -> EventInput:
    return EventInput("coupon", {"who": who}, id=name)


async def known(lab: Lab, session: str) -> str:
    """Make a profile by a first contact, and return its id."""
    answer = await lab.track(session_id=session)
    assert answer.profile is not None
    return str(answer.profile["id"])


async def counts(lab: Lab) -> dict[str, Any]:
    return {doc["id"]: doc["stats"]["counters"].get("n", 0) for doc in await lab.all("profile")}


@pytest.mark.requirement("004-39")
@pytest.mark.requirement("004-41")
@pytest.mark.requirement("004-42")
@pytest.mark.requirement("004-43")
@pytest.mark.requirement("004-44")
async def test_no_profile_is_made_or_read_but_a_session(open_lab: OpenLab) -> None:
    sees = chain(
        "*", ("respond", {"members": {"id": "{{ profile.id }}", "traits": "{{ profile.traits.name }}"}})
    )
    async with open_lab({"sees": sees}, debugger=True) as lab:
        answer = await lab.track("x", profile_less=True, profile_id="someone", debugger=True, profile=True)
        assert answer.profile is None
        assert answer.response == {"id": None, "traits": None}
        assert answer.debugging is not None
        assert [answer.debugging[kind]["saved"] for kind in ("session", "events", "profile")] == [1, 1, 0]
        assert await lab.all("profile") == []
        assert ((await lab.one("session"))["id"], (await lab.one("session"))["profile"]) == ("s1", None)
        event = await lab.one("event")
        assert (event["profile"], event["session"]) == (None, "s1")


async def test_the_profile_of_a_known_session_is_not_read(open_lab: OpenLab) -> None:
    async with open_lab({"count": chain("*", count())}) as lab:
        who = await known(lab, "s1")
        answer = await lab.track("x", profile_less=True)
        assert answer.profile is None
        assert await counts(lab) == {who: 0}
        event = await lab.one("event")
        assert event["errors"] == [
            "n0: there is no profile; nothing can be written at profile.stats.counters.n"
        ]
        assert (await lab.one("session"))["profile"] == who


@pytest.mark.requirement("004-48")
async def test_collect_makes_neither(open_lab: OpenLab) -> None:
    async with open_lab() as lab:
        answer = await lab.collect(EventInput("coupon", {"a": 1}))
        assert (answer.profile, answer.session_id) == (None, None)
        assert await lab.all("profile") == await lab.all("session") == []
        event = await lab.one("event")
        assert (event["profile"], event["session"], event["properties"]) == (None, None, {"a": 1})


@pytest.mark.requirement("004-40")
@pytest.mark.requirement("004-49")
@pytest.mark.parametrize("collect", [True, False])
async def test_a_workflow_loads_the_profile(open_lab: OpenLab, collect: bool) -> None:
    async with open_lab(FILES) as lab:
        who = await known(lab, "s1")
        for event in (coupon(who), EventInput("call", {"session": "s1"})):
            answer = (
                await lab.collect(event)
                if collect
                else await lab.track(event, profile_less=True, session_id="till")
            )
            assert answer.profile == {"id": who}
        assert await counts(lab) == {who: 2}
        assert [event["profile"] for event in await lab.all("event")] == [who, who]
        # The till's own session is nobody's.
        assert {doc["profile"] for doc in await lab.all("session")} == ({who} if collect else {who, None})


async def test_a_profile_that_is_not_there_is_not_found(open_lab: OpenLab) -> None:
    async with open_lab(FILES) as lab:
        assert (await lab.collect(coupon("nobody"))).profile is None
        event = await lab.one("event")
        assert event["runs"][0]["path"] == "n0.not_found"
        assert await lab.all("profile") == []


async def test_a_workflow_creates_a_profile(open_lab: OpenLab) -> None:
    async with open_lab(FILES) as lab:
        answer = await lab.collect("lead")
        assert answer.profile == {"id": (await lab.one("profile"))["id"]}
        assert await lab.counter() == 1
        event = await lab.one("event")
        assert event["profile"] == answer.profile["id"]


async def test_a_workflow_attaches_a_new_session(open_lab: OpenLab) -> None:
    async with open_lab(FILES) as lab:
        answer = await lab.collect(EventInput("chat", {"session": "s9"}))
        assert answer.profile is None
        session = await lab.one("session")
        assert (session["id"], session["profile"], session["stats"]["events"]) == ("s9", None, 1)
        assert (await lab.one("event"))["session"] == "s9"
        # The visitor who brings the session later is its first profile.
        who = await known(lab, "s9")
        assert (await lab.one("session"))["profile"] == who


async def test_a_workflow_attaches_a_known_session_with_its_profile(open_lab: OpenLab) -> None:
    async with open_lab(FILES) as lab:
        who = await known(lab, "s1")
        answer = await lab.collect(EventInput("chat", {"session": "s1"}))
        assert answer.profile == {"id": who}
        assert await counts(lab) == {who: 1}
        event = await lab.one("event")
        assert (event["profile"], event["session"]) == (who, "s1")


async def test_events_that_attach_different_profiles_are_committed_in_parts(open_lab: OpenLab) -> None:
    async with open_lab(FILES, debugger=True) as lab:
        one, two = await known(lab, "s1"), await known(lab, "s2")
        events = [
            coupon(one, "e1"), EventInput("x", id="e2"), coupon(two, "e3"), EventInput("lead", id="e4"),
            coupon(one, "e5"), EventInput("chat", {"session": "s2"}, id="e6"),
            EventInput("chat", {"session": "s9"}, id="e7"),
        ]  # fmt: skip
        answer = await lab.track(*events, profile_less=True, session_id=None, debugger=True)
        owners = [event["profile"] for event in await lab.all("event")]
        made = next(doc["id"] for doc in await lab.all("profile") if doc["id"] not in (one, two))
        assert owners == [one, None, two, made, one, two, None]
        assert await counts(lab) == {one: 2, two: 2, made: 1}
        assert answer.debugging is not None
        assert answer.debugging["events"]["ids"] == answer.events == [f"e{number}" for number in range(1, 8)]
        assert answer.debugging["events"]["duplicates"] == []
        # All of it again, in another order too, changes nothing.
        before = await lab.rows()
        again = await lab.track(*events, profile_less=True, session_id=None, debugger=True)
        assert again.debugging is not None
        assert again.debugging["events"]["duplicates"] == answer.events
        await lab.track(*reversed(events), profile_less=True, session_id=None)
        assert await lab.rows() == before


async def test_duplicates_and_errors_of_parts_are_told_once(open_lab: OpenLab) -> None:
    async with open_lab(FILES, debugger=True) as lab:
        one, two = await known(lab, "s1"), await known(lab, "s2")
        await lab.collect(EventInput("x", id="old"))
        events = [coupon(one, "e1"), EventInput("x", id="old"), EventInput("y", id="old"), coupon(two, "e2")]
        answer = await lab.track(*events, profile_less=True, session_id="s3", debugger=True)
        assert answer.debugging is not None
        assert answer.debugging["events"]["duplicates"] == ["old"]
        assert [error.code for error in answer.errors] == ["id_reused"]
        assert await counts(lab) == {one: 1, two: 1}


async def test_a_session_is_attached_to_its_own_event_only(open_lab: OpenLab) -> None:
    async with open_lab(FILES) as lab:
        who = await known(lab, "s1")
        chats = [EventInput("chat", {"session": session}) for session in ("s8", "s9", "s1")]
        await lab.track("x", chats[0], "x", chats[1], chats[2], "x", session_id=None, profile_less=True)
        found = [(event["session"], event["profile"]) for event in await lab.all("event")]
        assert found == [(None, None), ("s8", None), (None, None), ("s9", None), ("s1", who), (None, None)]


async def test_one_session_for_all_parts(open_lab: OpenLab) -> None:
    async with open_lab(FILES) as lab:
        one, two = await known(lab, "s1"), await known(lab, "s2")
        await lab.track(coupon(one), coupon(two), "x", profile_less=True, session_id="s3")
        session = next(doc for doc in await lab.all("session") if doc["id"] == "s3")
        assert (session["stats"]["events"], session["profile"], session["n"]) == (3, None, 3)


async def test_an_event_with_a_profile_gets_no_other(open_lab: OpenLab) -> None:
    async with open_lab(FILES) as lab:
        one, two = await known(lab, "s1"), await known(lab, "s2")
        await lab.track(coupon(two), "lead", EventInput("chat", {"session": "s2"}), session_id="s1")
        assert await counts(lab) == {one: 0, two: 0}
        assert [event["profile"] for event in await lab.all("event")] == [one] * 3
        assert all(event["errors"] for event in await lab.all("event"))


@pytest.mark.parametrize("id", ["a\nb", "\0", "x" * 257, "x" * 40_000])
async def test_a_session_is_named_by_the_rule_of_the_doors(open_lab: OpenLab, id: str) -> None:
    async with open_lab(FILES) as lab:
        answer = await lab.collect(EventInput("chat", {"session": id}))
        assert answer.profile is None
        assert await lab.all("session") == []
        event = await lab.one("event")
        assert event["session"] is None
        assert event["runs"][0]["path"] == "n0.error"
        assert "a session's id should have 1 to 256 characters" in event["errors"][0]
        assert len(event["errors"][0]) < 200


async def test_a_session_is_found_without_the_blanks_around_its_id(open_lab: OpenLab) -> None:
    async with open_lab(FILES) as lab:
        who = await known(lab, "s1")
        assert (await lab.collect(EventInput("chat", {"session": " s1 "}))).profile == {"id": who}
        answer = await lab.collect(EventInput("chat", {"session": "x" * 256}))
        assert answer.profile is None
        assert sorted(len(doc["id"]) for doc in await lab.all("session")) == [2, 256]
        await lab.collect(EventInput("chat", {"session": " "}))
        assert [event["runs"][0]["path"][:10] for event in await lab.all("event")][-1] == "n0.missing"


async def test_what_a_failed_node_attached_is_taken_back(open_lab: OpenLab) -> None:
    nodes = {
        # A session with a profile brings it along; the new one that is wanted beside it fails the node.
        "both": {
            "plugin": "attach",
            "config": {"given": {"session": "session", "create": "create"}},
            "then": {"error": ["again"]},
        },
        "again": {"plugin": "attach_session", "config": {"id": "{{ event.properties.session }}"}},
    }
    async with open_lab({"w": {"on": {"event": ["x"]}, "nodes": nodes}}) as lab:
        who = await known(lab, "s1")
        answer = await lab.collect(EventInput("x", {"session": "s1", "create": True}))
        assert answer.profile == {"id": who}
        assert len(await lab.all("profile")) == 1
        assert (await lab.one("event"))["runs"][0]["path"] == "both.error again.done"
        assert (await lab.one("session"))["stats"]["events"] == 1


async def test_a_new_session_and_profile_belong_together(open_lab: OpenLab) -> None:
    files = {"w": chain("x", ("attach", {"given": {"session": "session", "create": "create"}}))}
    async with open_lab(files) as lab:
        answer = await lab.collect(EventInput("x", {"session": "s9", "create": True}))
        assert answer.profile is not None
        assert (await lab.one("session"))["profile"] == answer.profile["id"]
        assert (await lab.track("y", session_id="s9")).profile == answer.profile


async def test_a_profile_that_was_never_there_fails_the_node_only(open_lab: OpenLab) -> None:
    files = {"w": chain("x", ("attach", {"given": {"profile": "who"}}))}
    async with open_lab(files, request_deadline_seconds=1) as lab:
        answer = await lab.collect(EventInput("x", {"who": "nobody"}))
        assert answer.profile is None
        assert (await lab.one("event"))["errors"] == ["n0: there is no profile nobody"]


async def test_an_event_that_is_not_saved_and_got_a_profile_is_known(open_lab: OpenLab) -> None:
    async with open_lab(FILES) as lab:
        who = await known(lab, "s1")
        # Of an event that is not kept nobody knows afterwards who sent it, so the second answer names nobody.
        for told in ({"id": who}, None):
            answer = await lab.collect(coupon(who, "e1"), save_events=False)
            assert answer.profile == told
        assert await counts(lab) == {who: 1}
        assert await lab.all("event") == []
