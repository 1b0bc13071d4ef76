"""Identifying values: whose they become, and when the session goes to somebody else."""

from datetime import timedelta
from typing import Any

import pytest

from headrace.engine.identity.values.kinds import claim_key
from headrace.engine.model import Caller, Doc, EventInput, iso, make_key, new_id, utc_now
from headrace.engine.store.protocol import Change, Claim
from tests.conftest import OpenLab
from tests.identity.people import FILES, IDENTIFY, counted, files, living, session_of, sign_in, view, who
from tests.makers import make_request


async def test_the_first_who_has_a_value_keeps_it(open_lab: OpenLab) -> None:
    async with open_lab(FILES) as lab:
        anonymous = await view(lab, "s1")
        assert who(await sign_in(lab, "s1", email=" Ann@Example.COM ")) == anonymous
        profile = await living(lab, anonymous)
        assert profile["identities"] == {"email": ["ann@example.com"]}
        assert "claimed" not in profile
        event = (await lab.all("event"))[-1]
        assert event["identified"] == [{"kind": "email", "decision": "kept"}]
        assert who(await sign_in(lab, "s1", email="ann@example.com")) == anonymous
        assert (await lab.all("event"))[-1]["identified"] == [{"kind": "email", "decision": "known"}]


async def test_a_new_visit_of_somebody_known_is_theirs_from_the_first_event(open_lab: OpenLab) -> None:
    async with open_lab(FILES) as lab:
        ann = who(await sign_in(lab, "s1", email="ann@example.com"))
        assert who(await sign_in(lab, "s2", email="ANN@example.com")) == ann
        assert len(await lab.all("profile")) == 1
        assert (await lab.all("event"))[-1]["profile_by"] == "identified"
        assert (await living(lab, ann))["stats"]["visits"] == 2


async def test_another_person_on_the_device_gets_the_session(open_lab: OpenLab) -> None:
    async with open_lab(FILES) as lab:
        ann = who(await sign_in(lab, "s1", email="ann@example.com"))
        bob = who(await sign_in(lab, "s1", email="bob@example.com"))
        assert ann != bob
        assert (await living(lab, bob))["identities"] == {"email": ["bob@example.com"]}
        assert (await living(lab, ann))["identities"] == {"email": ["ann@example.com"]}
        assert (await session_of(lab, "s1"))["profile"] == bob
        assert await view(lab, "s1") == bob
        # And back, when Ann signs in again.
        assert who(await sign_in(lab, "s1", email="ann@example.com")) == ann
        assert await view(lab, "s1") == ann
        events = [(event["type"], event["profile"]) for event in await lab.all("event")]
        assert events == [
            ("sign-in", ann),
            ("sign-in", bob),
            ("page-view", bob),
            ("sign-in", ann),
            ("page-view", ann),
        ]
        assert await counted(lab) == (5, 5)
        told = [event.get("identified") for event in await lab.all("event")]
        assert told[1] == told[3] == [{"kind": "email", "decision": "moved"}]


async def test_events_before_it_in_the_request_stay_with_the_one_before(open_lab: OpenLab) -> None:
    async with open_lab(FILES) as lab:
        ann = who(await sign_in(lab, "s1", email="ann@example.com"))
        request = make_request(
            "page-view",
            EventInput("sign-in", {"email": "bob@example.com"}),
            "page-view",
            source="backend",
            caller=Caller(secret="hush"),
        )
        bob = who(await lab.engine.track(request))
        assert [event["profile"] for event in await lab.all("event")] == [ann, ann, bob, bob]
        assert await counted(lab) == (4, 4)


NOBODYS: list[Any] = [
    *("", "  ", None, "null", "NULL", "undefined", "None", "nan", "N/A", "0", "0000", 0, 0.0, "-"),
    *("00000000-0000-0000-0000-000000000000", "anonymous", "Guest", "unknown", True, {}, [], "x" * 257),
    *(" Test@TEST.example ", "a\u200bb@example.com"),
]


async def test_values_that_are_nobodys_mean_nothing(open_lab: OpenLab) -> None:
    async with open_lab(FILES) as lab:
        seen = set()
        for number, value in enumerate(NOBODYS):
            seen.add(who(await sign_in(lab, f"{number}/1", email=value)))
            seen.add(who(await sign_in(lab, f"{number}/2", email=value)))
        assert len(seen) == 2 * len(NOBODYS)
        assert all("identities" not in profile for profile in await lab.all("profile"))
        assert all("identified" not in event for event in await lab.all("event"))
        assert not (await lab.rows())["claims"]


async def test_case_counts_only_in_mails_and_numbers_are_texts(open_lab: OpenLab) -> None:
    async with open_lab(FILES) as lab:
        seven = who(await sign_in(lab, "s1", customer=7))
        assert who(await sign_in(lab, "s2", customer=" 7 ")) == seven
        assert who(await sign_in(lab, "s3", customer=7.0)) == seven
        upper = who(await sign_in(lab, "s4", customer="Ab"))
        assert who(await sign_in(lab, "s5", customer="ab")) != upper


async def test_a_value_that_goes_first_says_who_it_is(open_lab: OpenLab) -> None:
    async with open_lab(FILES) as lab:
        ann = who(await sign_in(lab, "s1", customer=1, email="ann@example.com"))
        bob = who(await sign_in(lab, "s2", customer=2, email="bob@example.com"))
        # The customer's number goes before the address, whatever stands first in the file.
        assert who(await sign_in(lab, "s3", customer=2, email="ann@example.com")) == bob
        assert (await lab.all("event"))[-1]["identified"] == [
            {"kind": "customer", "decision": "known"},
            {"kind": "email", "decision": "outweighed"},
        ]
        # A third customer with Ann's address is a third person, and not sent to and fro.
        carl = who(await sign_in(lab, "s1", customer=3, email="ann@example.com"))
        assert carl not in (ann, bob)
        assert (await living(lab, carl))["identities"] == {"customer": ["3"]}
        assert len(await lab.all("profile")) == 3


async def test_more_values_than_one_as_far_as_they_may_be(open_lab: OpenLab) -> None:
    async with open_lab(files(email={"per_profile": 2})) as lab:
        ann = who(await sign_in(lab, "s1", email="a1@example.com"))
        assert who(await sign_in(lab, "s1", email="a2@example.com")) == ann
        assert (await living(lab, ann))["identities"] == {"email": ["a1@example.com", "a2@example.com"]}
        assert who(await sign_in(lab, "s1", email="a3@example.com")) != ann


async def test_a_profile_less_event_gets_the_profile_that_has_the_value(open_lab: OpenLab) -> None:
    async with open_lab(FILES) as lab:
        ann = who(await sign_in(lab, "s1", email="ann@example.com"))
        event = EventInput("sign-in", {"email": "ann@example.com"})
        answer = await lab.collect(event, source="backend", caller=Caller(secret="hush"))
        assert who(answer) == ann
        event = EventInput("sign-in", {"email": "nobody@example.com"})
        assert (await lab.collect(event, source="backend", caller=Caller(secret="hush"))).profile is None
        events = await lab.all("event")
        assert [event["profile"] for event in events] == [ann, ann, None]
        assert [event["identified"][0]["decision"] for event in events] == ["kept", "attached", "nobody"]
        assert (await living(lab, ann))["stats"]["counters"]["n"] == 2


async def test_what_is_mapped_is_the_persons(open_lab: OpenLab) -> None:
    types: Doc = {
        "sign-in": {"identify": IDENTIFY, "map": {"profile.traits.seen": {"append": "{{ event.id }}"}}}
    }
    async with open_lab(FILES | {"event_types.json": {"event_types": types}}) as lab:
        caller = Caller(secret="hush")
        for number, (mail, more) in enumerate(
            [("ann", {}), ("bob", {}), ("ann", {}), ("ann", {"session_id": None, "profile_less": True})]
        ):
            event = EventInput("sign-in", {"email": f"{mail}@example.com"}, id=f"e{number}")
            await lab.track(event, source="backend", caller=caller, **more)
        ann, bob = await lab.all("profile")
        assert (ann["traits"]["seen"], bob["traits"]["seen"]) == (["e0", "e2", "e3"], ["e1"])


async def test_sessions_that_are_not_saved_move_too(open_lab: OpenLab) -> None:
    async with open_lab(FILES) as lab:
        caller = Caller(secret="hush")
        answers = [
            await lab.track(
                EventInput("sign-in", {"email": mail}), source="backend", caller=caller, save_session=False
            )
            for mail in ("ann@example.com", "bob@example.com", "ann@example.com")
        ]
        ann, bob, again = (who(answer) for answer in answers)
        assert ann == again != bob
        assert await lab.all("session") == []
        assert await counted(lab) == (3, 3)


@pytest.mark.parametrize("stored", [True, False])
async def test_a_claim_of_somebody_who_died_before_the_commit(open_lab: OpenLab, *, stored: bool) -> None:
    async with open_lab(FILES) as lab:
        mine = await view(lab, "s1") if stored else ""
        key = claim_key("main", "email", "ann@example.com", is_trusted=True)
        claim = Claim(key, "ghost", {"kind": "email", "at": iso(utc_now() - timedelta(minutes=1))})
        await lab.store.commit(Change(new_id(), "main", claims=[claim]))
        ann = await living(lab, who(await sign_in(lab, "s1", email="ann@example.com")))
        assert ann["identities"] == {"email": ["ann@example.com"]}
        assert "ghost" in ann["ids"]
        assert (await living(lab, "ghost"))["id"] == ann["id"]
        assert not stored or mine in ann["ids"]
        assert (await living(lab, ann["id"]))["stats"]["counters"]["n"] == 1 + stored


async def test_what_no_event_type_identifies_asks_for_nothing(open_lab: OpenLab) -> None:
    async with open_lab({"count": FILES["count"]}) as lab:
        await lab.track(EventInput("sign-in", {"email": "ann@example.com"}))
        assert not (await lab.rows())["claims"]
        assert "identified" not in await lab.one("event")


async def test_the_story_tells_what_each_value_meant_and_no_value(open_lab: OpenLab) -> None:
    async with open_lab(FILES) as lab:
        await sign_in(lab, "s1", email="ann@example.com")
        caller = Caller(secret="hush")
        event = EventInput("sign-in", {"email": "bob@example.com", "customer": None}, id="e1")
        await lab.track(event, source="backend", caller=caller)
        await lab.settle()
        told = await lab.engine.story("main", make_key("event", "main", "backend", "e1"))
        assert told is not None
        assert told["identity"]["by"] == "new"
        (said,) = told["identity"]["identified"]
        assert (said["kind"], said["decision"]) == ("email", "moved")
        assert "somebody else" in said["why"]
        assert "bob" not in repr(told["identity"])
