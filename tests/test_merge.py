"""Merging profiles: nothing is lost, nothing counts twice, every id leads on."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from headrace.engine.identity.follow import find_living, follow, read_stored
from headrace.engine.identity.merge import MERGE, Merging, merge
from headrace.engine.model import Doc, EventInput, make_key
from headrace.engine.store.protocol import Query, Ref
from headrace.engine.timers.kinds import KINDS
from headrace.engine.timers.worker import TimerWorker
from tests.conftest import OpenLab
from tests.makers import Files, Lab, chain, count


def workspace(**more: Any) -> Files:
    """Return files whose workflows count, keep a trait, send and wait."""
    named = {"profile.traits.name": "{{ event.properties.name }}"}
    return {
        "counting": chain("*", count()),
        "naming": chain("named", ("set_fields", {"fields": named}), ("add_segment", {"segment": "vip"})),
        "sending": chain("buy", ("webhook", {"url": "https://crm.example/buy"})),
        "waiting": chain("later", ("wait", {"period": "30d"}), count("profile.stats.counters.waited")),
        **more,
    }


QUIET: Mapping[str, Any] = {"outbox": False, "timers": False}


async def visit(lab: Lab, session: str, *events: EventInput | str, profile: str | None = None) -> str:
    """Send events of a session and return whose they are."""
    # Of two profiles the older one lives on; those of one millisecond would be told apart by their random ids.
    await asyncio.sleep(0.002)
    answer = await lab.track(*events, session_id=session, profile_id=profile)
    assert answer.profile is not None
    return str(answer.profile["id"])


async def living(lab: Lab, profile: str) -> Doc:
    """Return the profile that an id means."""
    found = await find_living(lab.store, "main", profile)
    assert found is not None
    return found


async def join(lab: Lab, one: str, other: str) -> str:
    return await merge(lab.engine.parts, "main", one, other, "test")


async def fire(lab: Lab) -> None:
    """Do what the timers of merges have to do."""
    await lab.settle()
    await TimerWorker(lab.engine.parts, KINDS).fire_due()
    await lab.settle()


async def test_two_become_one_with_all_that_was_theirs(open_lab: OpenLab) -> None:
    async with open_lab(workspace(), **QUIET) as lab:
        a = await visit(lab, "s-a", "view", EventInput("named", {"name": "Kim"}), "buy", "later")
        b = await visit(lab, "s-b", "view", "view", "buy")
        assert await join(lab, b, a) == a
        made = await living(lab, b)
        assert (made["id"], made["ids"]) == (a, [a, b])
        assert made["stats"]["counters"]["n"] == 7
        assert made["stats"]["visits"] == 2
        assert made["traits"] == {"name": "Kim"}
        assert made["segments"] == ["vip"]
        (entry,) = made["absorbed"]
        assert (entry["id"], entry["by"]) == (b, "test")
        alias = await read_stored(lab.store, "main", b)
        assert alias is not None
        assert alias.doc["frozen"]["stats"]["counters"]["n"] == 3
        assert await join(lab, a, b) == a
        # What comes in by the other's session, or id, is the survivor's.
        assert await visit(lab, "s-b", "view") == a
        assert await visit(lab, "s-c", "view", profile=b) == a
        assert (await living(lab, a))["stats"]["counters"]["n"] == 9
        await fire(lab)
        assert await lab.store.count(Query("event", profile=a)) == 9
        assert await lab.store.count(Query("event", profile=b)) == 0
        assert await lab.store.count(Query("session", profile=a)) == 3
        assert [one["id"] for one in await lab.all("profile")] == [a]
        assert await lab.store.count(Query("effect", profile=(a, b))) == 2
        timers = {one["kind"]: one for one in await lab.all("timer")}
        assert (timers[MERGE]["status"], timers["run"]["profile"]) == ("fired", a)


async def test_a_session_stays_known_across_merges(open_lab: OpenLab) -> None:
    async with open_lab(workspace(), **QUIET) as lab:
        a, b, c = [await visit(lab, f"s-{name}", "view") for name in "abc"]
        assert await join(lab, b, c) == b
        assert await join(lab, a, b) == a
        assert await follow(lab.store, "main", c) == a
        assert await visit(lab, "s-c", "view") == a
        (session,) = await lab.store.read([Ref("session", make_key("session", "main", "s-c"))])
        assert session is not None
        assert (session.doc["profile"], session.doc["profile_then"]) == (a, c)
        made = await living(lab, c)
        assert made["ids"] == [a, b, c]
        assert made["stats"]["counters"]["n"] == 4
        assert [one["id"] for one in made["absorbed"]] == [b]


async def test_an_event_sent_again_is_answered_with_the_survivor(open_lab: OpenLab) -> None:
    async with open_lab(workspace(), **QUIET) as lab:
        a = await visit(lab, "s-a", "view")
        b = await visit(lab, "s-b", EventInput("view", id="e1"))
        await join(lab, a, b)
        assert await visit(lab, "s-b", EventInput("view", id="e1")) == a
        assert (await living(lab, b))["stats"]["counters"]["n"] == 2


async def test_the_story_of_an_event_tells_what_its_profile_became(open_lab: OpenLab) -> None:
    async with open_lab(workspace(), **QUIET) as lab:
        a, b = await visit(lab, "s-a", "view"), await visit(lab, "s-b", EventInput("view", id="e1"))
        await join(lab, a, b)
        for owner in (b, a):
            found = await lab.engine.story("main", make_key("event", "main", "shop", "e1"))
            assert found is not None
            assert found["profile"] == owner
            (step,) = found["identity"]["merged"]
            assert (step["profile"], step["into"], step["by"]) == (b, a, "test")
            await fire(lab)
        of_a = await lab.engine.story("main", (await lab.all("event"))[0]["key"])
        assert of_a is not None
        assert "merged" not in of_a["identity"]


async def test_nodes_find_what_was_of_either(open_lab: OpenLab) -> None:
    load = ("load_profile", {"id": "{{ event.properties.who }}"})
    files = workspace(past=chain("ask", ("past", {}), order=1), loading=chain("load", load, order=-1))
    async with open_lab(files, **QUIET) as lab:
        a, b = await visit(lab, "s-a", "view"), await visit(lab, "s-b", "view", "view")
        await lab.settle()
        await join(lab, a, b)
        # Nothing is re-owned yet.
        answer = await lab.track(EventInput("ask", id="q"), session_id="s-b")
        assert answer.response["q"]["count"] == 3
        await lab.collect(EventInput("load", {"who": b}))
        assert (await living(lab, a))["stats"]["counters"]["n"] == 5


RINGS = {
    "both ways": [("a", "b"), ("b", "a")],
    "a ring": [("a", "b"), ("b", "c"), ("c", "a"), ("b", "a"), ("c", "b"), ("a", "c")],
}


@pytest.mark.parametrize("ring", RINGS)
async def test_rings_end_in_one_with_everything_in_it(open_lab: OpenLab, ring: str) -> None:
    async with open_lab(workspace(), **QUIET) as lab:
        for turn in range(20):
            names = sorted({name for pair in RINGS[ring] for name in pair})
            ids = {name: await visit(lab, f"{turn}-{name}", "view", "view") for name in names}
            sent = [visit(lab, f"{turn}-{name}", "view") for name in names]
            joins = [join(lab, ids[one], ids[other]) for one, other in RINGS[ring]]
            await asyncio.gather(*joins, *sent)
            (whole,) = {await follow(lab.store, "main", profile) for profile in ids.values()}
            made = await living(lab, whole)
            assert sorted(made["ids"]) == sorted(ids.values())
            assert made["stats"]["counters"]["n"] == 3 * len(names)
            assert made["stats"]["visits"] == len(names)


async def test_events_that_come_in_to_both_meanwhile_all_count(open_lab: OpenLab) -> None:
    async with open_lab(workspace(), **QUIET) as lab:
        a, b = await visit(lab, "s-a", "view"), await visit(lab, "s-b", "view")
        sent = [visit(lab, f"s-{'ab'[n % 2]}", "view") for n in range(30)]
        answers = await asyncio.gather(*sent[:10], join(lab, a, b), *sent[10:])
        assert set(answers) <= {a, b}
        made = await living(lab, b)
        assert made["stats"]["counters"]["n"] == 32
        await fire(lab)
        assert await lab.store.count(Query("event", profile=a)) == 32


async def half_merge(lab: Lab, loser: str, survivor: str, step: str) -> None:
    """Do the first steps of a merge, as a process does that dies then."""
    merging = Merging(lab.store, lab.engine.parts.locks)
    said = {"at": "2026-01-15T12:00:00.000Z", "by": "test", "rules": {}}
    assert await merging._freeze("main", loser, survivor, said)
    frozen = await read_stored(lab.store, "main", loser)
    assert frozen is not None
    if step == "folded":
        assert await merging._fold("main", survivor, frozen.doc)


STEPS = ("frozen", "folded")


@pytest.mark.parametrize("step", STEPS)
async def test_a_half_done_merge_is_finished_by_the_next_reader(open_lab: OpenLab, step: str) -> None:
    async with open_lab(workspace(), **QUIET) as lab:
        a, b = await visit(lab, "s-a", "view"), await visit(lab, "s-b", "view")
        await half_merge(lab, b, a, step)
        expected = a if step == "folded" else b
        assert (await living(lab, b))["id"] == expected
        assert await visit(lab, "s-b", "view") == a
        made = await living(lab, b)
        assert (made["id"], made["stats"]["counters"]["n"]) == (a, 3)
        assert len(made["absorbed"]) == 1


async def test_the_worker_finishes_a_half_done_merge(open_lab: OpenLab) -> None:
    async with open_lab(workspace(), **QUIET) as lab:
        a, b = await visit(lab, "s-a", "view"), await visit(lab, "s-b", "view")
        await half_merge(lab, b, a, "frozen")
        await fire(lab)
        assert (await living(lab, b))["stats"]["counters"]["n"] == 2
        assert await lab.store.count(Query("event", profile=a)) == 2


async def test_a_profile_whose_survivor_is_erased_stays(open_lab: OpenLab) -> None:
    async with open_lab(workspace(), **QUIET) as lab:
        a, b = await visit(lab, "s-a", "view"), await visit(lab, "s-b", "view")
        await half_merge(lab, b, a, "frozen")
        await lab.settle()
        await lab.store.erase("main", a)
        assert await visit(lab, "s-b", "view") == b
        made = await living(lab, b)
        assert (made["stats"]["counters"]["n"], "merging" in made) == (2, False)


async def test_reports_count_one_visitor_once_events_are_reowned(open_lab: OpenLab) -> None:
    async with open_lab(workspace(), **QUIET) as lab:
        a, b = await visit(lab, "s-a", "view"), await visit(lab, "s-b", "view")
        await lab.settle()
        (bucket,) = await lab.store.report(Query("event"), "type")
        assert (bucket["events"], bucket["profiles"]) == (2, 2)
        await join(lab, a, b)
        await fire(lab)
        (bucket,) = await lab.store.report(Query("event"), "type")
        assert (bucket["events"], bucket["profiles"]) == (2, 1)


async def test_a_run_that_waited_goes_on_with_the_survivor(open_lab: OpenLab) -> None:
    files = workspace(
        waiting=chain("later", ("wait", {"period": "1s"}), count("profile.stats.counters.waited"))
    )
    async with open_lab(files, **QUIET) as lab:
        a = await visit(lab, "s-a", "view")
        b = await visit(lab, "s-b", "later")
        await join(lab, a, b)
        await asyncio.sleep(1.1)
        await fire(lab)
        made = await living(lab, a)
        assert made["stats"]["counters"] == {"n": 2, "waited": 1}


async def test_strategies_of_the_workspace_and_times_of_fields_decide(open_lab: OpenLab) -> None:
    fields = {f"profile.traits.{name}": f"{{{{ event.properties.{name} }}}}" for name in ("age", "name")}
    types = {"merge": {"profile.traits.age": "largest"}, "event_types": {}}
    files = {"event_types.json": types, "setting": chain("set", ("set_fields", {"fields": fields}))}
    async with open_lab(files, **QUIET) as lab:
        a = await visit(lab, "s-a", EventInput("set", {"age": 40, "name": "old"}))
        b = await visit(lab, "s-b", EventInput("set", {"age": 30, "name": "new"}))
        changed = (await living(lab, b))["changed"]
        assert set(changed) == {"profile.traits.age", "profile.traits.name"}
        # What was written last decides, not who was seen last.
        await visit(lab, "s-a", "view")
        await join(lab, a, b)
        assert (await living(lab, a))["traits"] == {"age": 40, "name": "new"}


async def test_a_field_may_keep_the_value_that_was_there_first(open_lab: OpenLab) -> None:
    fields = {"fields": {"profile.traits.shop": "{{ event.properties.shop }}"}}
    types = {"merge": {"profile.traits.shop": "first_set"}, "event_types": {}}
    files = {"event_types.json": types, "setting": chain("set", ("set_fields", fields))}
    async with open_lab(files, **QUIET) as lab:
        a = await visit(lab, "s-a", EventInput("set", {"shop": "one"}))
        b = await visit(lab, "s-b", EventInput("set", {"shop": "two"}))
        # Another value since, but there was one before that of the other.
        await visit(lab, "s-a", EventInput("set", {"shop": "three"}))
        await join(lab, a, b)
        assert (await living(lab, a))["traits"] == {"shop": "three"}


async def test_events_without_a_profile_count_for_the_session_of_a_merged_one(open_lab: OpenLab) -> None:
    files = workspace(visits=chain("*", count("session.properties.n"), order=2))
    async with open_lab(files, **QUIET) as lab:
        a, b = await visit(lab, "s-a", "view"), await visit(lab, "s-b", "view")
        await join(lab, a, b)
        less = [lab.track("view", session_id="s-b", profile_less=True) for _ in range(5)]
        await asyncio.gather(*less, *(visit(lab, "s-b", "view") for _ in range(5)))
        (session,) = await lab.store.read([Ref("session", make_key("session", "main", "s-b"))])
        assert session is not None
        assert (session.doc["properties"]["n"], session.doc["stats"]["events"]) == (11, 11)


@pytest.mark.parametrize("step", STEPS)
async def test_events_without_a_profile_count_in_a_half_done_merge(open_lab: OpenLab, step: str) -> None:
    files = workspace(visits=chain("*", count("session.properties.n"), order=2))
    async with open_lab(files, **QUIET) as lab:
        a, b = await visit(lab, "s-a", "view"), await visit(lab, "s-b", "view")
        await half_merge(lab, b, a, step)
        await lab.track("view", session_id="s-b", profile_less=True)
        less = [lab.track("view", session_id="s-b", profile_less=True) for _ in range(5)]
        await asyncio.gather(*less, *(visit(lab, "s-b", "view") for _ in range(5)))
        (session,) = await lab.store.read([Ref("session", make_key("session", "main", "s-b"))])
        assert session is not None
        assert (session.doc["properties"]["n"], session.doc["stats"]["events"]) == (12, 12)
        assert (await living(lab, b))["stats"]["counters"]["n"] == 7


async def test_a_workspace_without_strategies_keeps_no_times(open_lab: OpenLab) -> None:
    async with open_lab(workspace(), **QUIET) as lab:
        a = await visit(lab, "s-a", EventInput("named", {"name": "Kim"}))
        assert "changed" not in await living(lab, a)
