"""What was seen before anybody knew who it is counts for the person afterwards, once."""

from typing import Any, Literal

import pytest

from headrace.engine.identity.unmerge import Apart, unmerge
from headrace.engine.model import Caller, Doc, EventInput
from headrace.engine.store.protocol import Query
from headrace.engine.timers.kinds import KINDS
from headrace.engine.timers.worker import TimerWorker
from tests.conftest import OpenLab
from tests.identity.people import FILES, IDENTIFY, files, living, session_of, sign_in, view, who
from tests.makers import Lab, chain

QUIET: dict[str, Any] = {"outbox": False, "timers": False}


async def fire(lab: Lab) -> None:
    """Do what timers have to do."""
    await lab.settle()
    await TimerWorker(lab.engine.parts, KINDS).fire_due()
    await lab.settle()


async def visitors(lab: Lab, by: Literal["type", "day", "source"] = "type") -> dict[str, Doc]:
    return {row["bucket"]: row for row in await lab.store.report(Query("event"), by)}


async def test_views_of_an_anonymous_visitor_count_for_the_person(open_lab: OpenLab) -> None:
    async with open_lab(FILES, **QUIET) as lab:
        ann = who(await sign_in(lab, "home", email="ann@example.com"))
        visitor = await view(lab, "phone")
        await view(lab, "phone")
        assert (await living(lab, visitor))["stats"]["views"] == 2
        signed_in = who(await sign_in(lab, "phone", email="ann@example.com"))
        assert signed_in == ann
        # At once: counters, and events by every id.
        doc = await living(lab, visitor)
        assert (doc["id"], doc["stats"]["views"], doc["stats"]["visits"]) == (ann, 2, 2)
        await lab.settle()
        for ids in ((visitor, ann), tuple(doc["ids"])):
            assert await lab.store.count(Query("event", profile=ids)) == 4
        assert await view(lab, "other", profile_id=visitor) == ann
        # And once the timer has come, visitors are counted once.
        await fire(lab)
        found = await visitors(lab)
        assert (found["page-view"]["events"], found["page-view"]["profiles"]) == (3, 1)
        assert (found["sign-in"]["events"], found["sign-in"]["profiles"]) == (2, 1)
        assert (await session_of(lab, "phone"))["profile"] == ann
        events = await lab.all("event")
        assert {event["profile"] for event in events} == {ann}
        assert [event.get("profile_then") for event in events if event["session"] == "phone"] == [
            visitor,
            visitor,
            None,
        ]


async def test_somebody_with_an_account_on_two_devices_before_it(open_lab: OpenLab) -> None:
    async with open_lab(FILES, **QUIET) as lab:
        phone, laptop = await view(lab, "phone"), await view(lab, "laptop")
        assert who(await sign_in(lab, "phone", email="ann@example.com", customer=7)) == phone
        assert who(await sign_in(lab, "laptop", customer=7)) == phone
        doc = await living(lab, laptop)
        assert (doc["id"], doc["stats"]["views"]) == (phone, 2)
        assert doc["identities"] == {"email": ["ann@example.com"], "customer": ["7"]}


async def test_no_more_profiles_than_are_allowed(open_lab: OpenLab) -> None:
    async with open_lab(files(email={"most_profiles": 3}), **QUIET) as lab:
        profiles = [await view(lab, f"s{number}") for number in range(5)]
        answers = [who(await sign_in(lab, f"s{number}", email="all@example.com")) for number in range(5)]
        assert len(set(answers)) == 1
        doc = await living(lab, answers[0])
        assert doc["ids"] == profiles[:3]
        # The others' sessions moved; what was before stays where it was.
        assert [(await living(lab, each))["stats"]["views"] for each in profiles] == [3, 3, 3, 1, 1]


async def test_two_that_were_taken_apart_are_not_merged_again(open_lab: OpenLab) -> None:
    async with open_lab(FILES, **QUIET) as lab:
        ann = who(await sign_in(lab, "home", email="ann@example.com"))
        visitor = await view(lab, "phone")
        assert who(await sign_in(lab, "phone", email="ann@example.com")) == ann
        await fire(lab)
        taken = await unmerge(lab.store, lab.engine.parts.locks, "main", visitor)
        assert isinstance(taken, Apart)
        await fire(lab)
        assert (await living(lab, visitor))["id"] == visitor
        assert (await living(lab, visitor))["stats"]["views"] == 1
        # It was Ann after all, says the back end once more: the session goes to her, and what was before stays apart.
        session = (await session_of(lab, "phone"))["profile"]
        assert session == visitor
        assert who(await sign_in(lab, "phone", email="ann@example.com")) == ann
        assert (await living(lab, visitor))["id"] == visitor
        assert (await session_of(lab, "phone"))["profile"] == ann


async def test_workflows_see_the_one_that_is_left(open_lab: OpenLab) -> None:
    tell = {
        "who": "{{ profile.id }}",
        "mails": "{{ profile.identities.email }}",
        "views": "{{ profile.stats.views }}",
    }
    workspace = FILES | {"tell": chain("sign-in", ("respond", {"members": tell}))}
    async with open_lab(workspace, **QUIET) as lab:
        ann = who(await sign_in(lab, "home", email="ann@example.com"))
        await view(lab, "phone")
        answer = await sign_in(lab, "phone", email="ann@example.com")
        assert answer.response == {"who": ann, "mails": ["ann@example.com"], "views": 1}


@pytest.mark.parametrize("first", ["ann", "bob", "eve"])
async def test_what_an_event_causes_does_not_send_the_session_to_and_fro(
    open_lab: OpenLab, first: str
) -> None:
    bob = {"email": "bob@example.com"}
    workspace = FILES | {
        "tell": chain(
            "sign-in", ("emit_event", {"type": "told", "properties": bob}), on={"source": ["backend"]}
        ),
        "node": chain("sign-in", ("identify", {"kind": "email", "value": "carl@example.com"})),
    }
    types = {"event_types": FILES["event_types.json"]["event_types"] | {"told": {"identify": IDENTIFY}}}
    async with open_lab(workspace | {"event_types.json": types}, **QUIET) as lab:
        await sign_in(lab, "tablet", email=f"{first}@example.com")
        for _ in range(2):
            answer = await sign_in(lab, "tablet", email="ann@example.com")
            assert (await living(lab, who(answer)))["identities"] == {"email": ["ann@example.com"]}
        await lab.settle()
        events = await lab.all("event")
        assert len(events) == 6
        assert sum(doc["stats"]["counters"]["n"] for doc in await lab.all("profile")) == 6
        assert {event["profile"] for event in events[-4:]} == {who(answer)}


async def test_a_node_identifies_and_what_ran_before_it_is_not_done_twice(open_lab: OpenLab) -> None:
    workspace = FILES | {
        "first": chain("say", ("increment", {"field": "profile.stats.counters.first"}), order=-1),
        "say": chain(
            "say",
            ("identify", {"kind": "email", "value": "{{ event.properties.email }}"}),
            ("respond", {"members": {"decision": "{{ nodes.n0.decision }}", "who": "{{ profile.id }}"}}),
        ),
    }
    async with open_lab(workspace, **QUIET) as lab:
        ann = who(await sign_in(lab, "home", email="ann@example.com"))
        await view(lab, "phone")
        caller = Caller(secret="hush")
        event = EventInput("say", {"email": "ann@example.com"})
        answer = await lab.track(
            "page-view", event, "page-view", source="backend", session_id="phone", caller=caller
        )
        assert answer.response == {"decision": "known", "who": ann}
        doc = await living(lab, ann)
        assert (doc["stats"]["counters"]["first"], doc["stats"]["counters"]["n"], doc["stats"]["views"]) == (
            1,
            5,
            3,
        )
        moved = EventInput("say", {"email": "bob@example.com"})
        bob = who(await lab.track(moved, source="backend", session_id="phone", caller=caller))
        assert bob != ann
        assert (await living(lab, bob))["stats"]["counters"] == {"first": 1, "n": 1}
        assert (await living(lab, ann))["stats"]["counters"]["first"] == 1
