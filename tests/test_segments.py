"""Computed segments and goals at the events: entering, leaving, what is counted, and what nodes may not."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headrace.engine.identity.merge import merge
from headrace.engine.model import Doc, EventInput, iso
from headrace.engine.segments.sweep import fire_sweep, keep_next
from headrace.engine.steps.segments import LAG
from headrace.engine.store.protocol import Leased
from headrace.engine.timers.kinds import KINDS
from headrace.engine.timers.worker import TimerWorker
from tests.conftest import OpenLab
from tests.makers import Lab, chain, count, sources
from tests.test_merge import living

START = datetime(2026, 1, 15, 12, tzinfo=UTC)
BUYER = {"buyer": {"when": "events('order', within='30d').count >= 2"}}
LAPSED = {"lapsed": {"when": "events('order').count > 0 and events('order', within='30d').count == 0"}}


def segments(**entries: Any) -> Doc:
    return {"segments.json": {"segments": {"vip": {}} | entries}}


async def order(lab: Lab, at: datetime = START, total: Any = 10, **more: Any) -> Doc:
    """Send an order at a time, and return the profile's segments afterwards."""
    await lab.track(EventInput("order", {"total": total}), received=at, **more)
    return await lab.one("profile")


async def types(lab: Lab) -> list[str]:
    return [event["type"] for event in await lab.all("event")]


async def test_enters_and_leaves_and_workflows_take_it(open_lab: OpenLab) -> None:
    files = segments(**BUYER) | {
        "in": chain(
            "segment-entered",
            count("profile.stats.counters.in"),
            on={"when": "event.properties.segment == 'buyer'"},
        ),
        "out": chain("segment-left", count("profile.stats.counters.out")),
    }
    async with open_lab(files) as lab:
        assert (await order(lab))["segments"] == []
        assert (await order(lab, START + timedelta(days=1)))["segments"] == ["buyer"]
        await lab.track("page-view", received=START + timedelta(days=40))
        profile = await lab.one("profile")
        assert profile["segments"] == []
        assert profile["stats"]["counters"] == {"in": 1, "out": 1}
        assert (await types(lab)).count("segment-entered") == 1
        entered = next(event for event in await lab.all("event") if event["type"] == "segment-entered")
        assert entered["properties"] == {"segment": "buyer"}
        assert entered["profile"] == profile["id"]


async def test_nodes_of_the_same_event_come_first(open_lab: OpenLab) -> None:
    files = segments(many={"when": "profile.stats.counters.n >= 2"}) | {"one": chain("page-view", count())}
    async with open_lab(files) as lab:
        await lab.track("page-view", "page-view")
        assert (await lab.one("profile"))["segments"] == ["many"]


async def test_the_past_is_hidden_from_nodes_and_clients(open_lab: OpenLab) -> None:
    look = chain(
        "order", ("respond", {"members": {"seen": "{{ profile.past }}", "all": "{{ profile | json }}"}})
    )
    files = segments(**BUYER) | {"look": look, "sources.json": sources(shop={"answers_profile": True})}
    async with open_lab(files) as lab:
        await order(lab)
        answer = await lab.track("order", profile=True, received=START)
        assert answer.response["seen"] is None
        assert "past" not in answer.response["all"]
        assert answer.profile is not None
        assert "past" not in answer.profile
        assert "past" in await lab.one("profile")


async def test_a_profile_that_is_there_already_is_asked_for_its_past_once(open_lab: OpenLab) -> None:
    async with open_lab() as lab:
        await order(lab)
        await order(lab, START + timedelta(seconds=1))
        assert "past" not in await lab.one("profile")
    async with open_lab(segments(**BUYER)) as lab:
        at = START + timedelta(seconds=2)
        await lab.track("page-view", received=at)
        if not lab.store.lags:
            assert (await lab.one("profile"))["segments"] == ["buyer"]
            return
        # A moment ago: what was committed may not be found yet, so nothing is said.
        assert (await lab.one("profile"))["segments"] == []
        assert "past" not in await lab.one("profile")
        await lab.track("page-view", received=at + LAG)
        assert (await lab.one("profile"))["segments"] == ["buyer"]


async def test_who_is_not_known_is_not_in_nor_out(open_lab: OpenLab) -> None:
    never = {"never": {"when": "events('login', within='90d').count == 0"}}
    async with open_lab() as lab:
        await order(lab)
    async with open_lab(segments(**never)) as lab:
        # Where questions lag, nothing is known so soon.
        soon = await order(lab, START + timedelta(seconds=1))
        assert soon["segments"] == ([] if lab.store.lags else ["never"])
        assert (await order(lab, START + timedelta(days=1)))["segments"] == ["never"]


async def test_what_is_asked_no_more_is_forgotten(open_lab: OpenLab) -> None:
    async with open_lab(segments(**BUYER)) as lab:
        await order(lab)
    async with open_lab() as lab:
        await order(lab, START + timedelta(days=1))
        assert "past" not in await lab.one("profile")
    async with open_lab(segments(**BUYER)) as lab:
        assert (await order(lab, START + timedelta(days=2)))["segments"] == ["buyer"]


async def test_an_event_that_is_not_kept_is_not_counted(open_lab: OpenLab) -> None:
    async with open_lab(segments(**BUYER)) as lab:
        for number in range(3):
            await order(lab, START + timedelta(seconds=number), save_events=False)
        assert (await lab.one("profile"))["segments"] == []


async def test_an_event_without_the_consents_of_its_source_is_not_counted(open_lab: OpenLab) -> None:
    files = segments(**BUYER) | {"sources.json": sources(shop={"consents": ["analytics"]})}
    async with open_lab(files) as lab:
        for number in range(3):
            await order(lab, START + timedelta(seconds=number))
        assert (await lab.one("profile"))["segments"] == []
        assert all(event["consent"] is False for event in await lab.all("event"))


async def test_what_comes_soon_after_the_consent_counts(open_lab: OpenLab) -> None:
    given = {"consent": "analytics", "given": True}
    consent = chain("agree", ("set_consent", given), on={"before_consent": True}, order=-1)
    files = segments(**BUYER) | {
        "sources.json": sources(shop={"consents": ["analytics"]}),
        "agree": consent,
    }
    async with open_lab(files) as lab:
        await order(lab)
        await lab.track("agree", received=START + timedelta(seconds=1))
        assert (await order(lab, START + timedelta(seconds=2)))["segments"] == []
        assert (await order(lab, START + timedelta(seconds=3)))["segments"] == ["buyer"]


async def test_an_event_that_is_sent_twice_is_counted_once(open_lab: OpenLab) -> None:
    async with open_lab(segments(**BUYER)) as lab:
        for _ in range(3):
            await lab.track(EventInput("order", id="same"))
        assert (await lab.one("profile"))["segments"] == []


async def test_without_a_profile_nothing_happens(open_lab: OpenLab) -> None:
    files = segments(all={"when": "true"}) | {"goals.json": {"goals": {"bought": {"event": ["order"]}}}}
    async with open_lab(files) as lab:
        await lab.collect("order")
        (event,) = await lab.all("event")
        assert event["goals"] == [{"goal": "bought", "value": None}]
        assert not await lab.all("profile")


async def test_segments_that_chase_each_other_come_to_an_end(open_lab: OpenLab) -> None:
    files = segments(odd={"when": "profile.stats.counters.n % 2 == 1"}) | {
        "start": chain("page-view", count()),
        "chase": chain(["segment-entered", "segment-left"], count()),
    }
    async with open_lab(files) as lab:
        await lab.track("page-view")
        events = await lab.all("event")
        assert len(events) == 4
        assert "events cause others 3 deep only" in events[-1]["errors"][0]
        assert await lab.counter() == 4


async def test_a_node_cannot_write_a_computed_segment(open_lab: OpenLab) -> None:
    def setting(value: Any) -> Doc:
        return chain("page-view", ("set_fields", {"fields": {"profile.segments": value}}))

    files = segments(**BUYER) | {"cheat": setting(["buyer"]), "fine": setting(["vip"]) | {"order": 1}}
    async with open_lab(files) as lab:
        await lab.track("page-view")
        (event,) = [event for event in await lab.all("event") if event["type"] == "page-view"]
        assert "the segment 'buyer' is computed by its condition" in event["errors"][0]
        assert (await lab.one("profile"))["segments"] == ["vip"]


async def test_a_condition_that_fails_is_told_and_changes_nothing(open_lab: OpenLab) -> None:
    long = "'x' in (profile.traits.a ~ profile.traits.a ~ profile.traits.a)"
    files = segments(long={"when": f"{long} or {long}"}) | {
        "keep": chain(
            "page-view", ("set_fields", {"fields": {"profile.traits.a": "{{ event.properties.a }}"}})
        ),
    }
    async with open_lab(files) as lab:
        await lab.track(EventInput("page-view", {"a": "x"}))
        assert (await lab.one("profile"))["segments"] == ["long"]
        await lab.track(EventInput("page-view", {"a": "y" * 500_000}))
        assert (await lab.one("profile"))["segments"] == ["long"]
        assert (await lab.all("event"))[-1]["errors"][0].startswith("segment long: ")


@pytest.mark.parametrize("names", [{"vip"}, {"vip", "other"}])
async def test_segments_without_conditions_leave_no_trace(open_lab: OpenLab, names: set[str]) -> None:
    async with open_lab({"segments.json": {"segments": {name: {} for name in names}}}) as lab:
        await order(lab)
        assert not lab.engine.workspace.watched.is_used
        assert "past" not in await lab.one("profile")


GOALS = {
    "goals.json": {
        "goals": {
            "bought": {
                "event": ["order"],
                "when": "event.properties.total > 0",
                "value": "{{ event.properties.total }}",
            },
            "came": {"event": ["*"]},
        }
    }
}


async def test_goals_are_kept_on_event_session_and_profile(open_lab: OpenLab) -> None:
    files = GOALS | {"thank": chain("goal-achieved", count("profile.stats.counters.thanks"))}
    async with open_lab(files) as lab:
        await order(lab, total=30)
        await order(lab, START + timedelta(days=1), total=0)
        await order(lab, START + timedelta(days=2), total=12.5)
        profile, session = await lab.one("profile"), await lab.one("session")
        kept = {"first": iso(START), "last": iso(START + timedelta(days=2)), "count": 2, "value": 42.5}
        assert profile["goals"]["bought"] == session["goals"]["bought"] == kept
        assert profile["goals"]["came"]["count"] == 3
        assert profile["goals"]["came"]["value"] is None
        first = next(event for event in await lab.all("event") if event["type"] == "order")
        assert first["goals"] == [{"goal": "bought", "value": 30}, {"goal": "came", "value": None}]
        assert profile["stats"]["counters"]["thanks"] == 5


async def test_no_event_is_made_of_a_goal_that_nobody_takes(open_lab: OpenLab) -> None:
    async with open_lab(GOALS) as lab:
        await order(lab)
        assert await types(lab) == ["order"]


async def test_a_value_that_is_no_number_is_told(open_lab: OpenLab) -> None:
    async with open_lab(
        GOALS
        | {"goals.json": {"goals": {"bought": {"event": ["order"], "value": "{{ event.properties.total }}"}}}}
    ) as lab:
        profile = await order(lab, total="much")
        assert profile["goals"]["bought"] | {"first": "", "last": ""} == {
            "first": "",
            "last": "",
            "count": 1,
            "value": None,
        }
        assert "goal bought" in (await lab.one("event"))["errors"][0]


async def test_a_value_that_cannot_be_kept_is_told_and_locks_nobody_out(open_lab: OpenLab) -> None:
    value = {
        "goals.json": {"goals": {"bought": {"event": ["order"], "value": "{{ event.properties.total }}"}}}
    }
    async with open_lab(GOALS | value) as lab:
        for total in (10**400, 1e308, 1.5, 1e308, 2**62):
            profile = await order(lab, total=total)
        assert profile["goals"]["bought"] | {"first": "", "last": ""} == {
            "first": "",
            "last": "",
            "count": 5,
            "value": 1e308,
        }
        told = [event["errors"] for event in await lab.all("event")]
        assert sorted(len(errors) for errors in told) == [0, 0, 0, 1, 1]
        assert "64 bits" in str(told)
        assert "the value is not added" in str(told)
        other = await lab.track(EventInput("order", {"total": 2.5}), session_id="s-other")
        assert other.profile is not None
        await merge(lab.engine.parts, "main", profile["id"], other.profile["id"], "test")
        await lab.track(EventInput("order", {"total": 1}))
        assert (await living(lab, profile["id"]))["goals"]["bought"]["count"] == 7


async def test_a_run_that_goes_on_after_a_wait_counts_nothing_twice(open_lab: OpenLab) -> None:
    files = GOALS | segments(**BUYER, marked={"when": "profile.stats.counters.n > 0"})
    files |= {"wait": chain("order", ("wait", {"period": "1h"}), count())}
    async with open_lab(files, timers=False) as lab:
        await order(lab)
        await lab.settle()
        worker = TimerWorker(lab.engine.parts, KINDS, lambda: START + timedelta(hours=2))
        assert await worker.fire_due() == 1
        profile = await lab.one("profile")
        assert profile["segments"] == ["marked"]
        assert profile["goals"]["bought"]["count"] == 1
        assert (await types(lab)) == ["order", "segment-entered"]


async def test_a_sweep_that_is_done_again_enters_and_leaves_as_any_other(open_lab: OpenLab) -> None:
    idle = {"idle": {"when": "events('ping', within='1h').count == 0"}}
    hour = timedelta(hours=1)
    async with open_lab(segments(**idle), timers=False) as lab:
        await lab.track("ping", received=START)
        await keep_next(lab.engine.parts, "main", START)
        await lab.settle()
        # Its worker died before it was noted as done; meanwhile the profile left what it had entered.
        again = Leased(
            (await lab.one("timer"))["id"], (await lab.one("timer")) | {"done": 0, "changed": 0}, "l"
        )
        again.doc["cursor"] = None
        for now in (START + 2 * hour, START + 4 * hour):
            swept = await fire_sweep(lab.engine.parts, again, now)
            assert (swept["status"], swept["changed"]) == ("fired", 1)
            assert (await lab.one("profile"))["segments"] == ["idle"]
            await lab.track("ping", received=now)
            assert (await lab.one("profile"))["segments"] == []
        await lab.settle()
        assert sorted(await types(lab)) == ["ping"] * 3 + ["segment-entered"] * 2 + ["segment-left"] * 2
