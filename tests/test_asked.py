"""Segments beside the events heed the consents that the sources of a profile ask for."""

from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console
from rich.tree import Tree

from headrace.commands.segments import drawn
from headrace.engine.draft import CAME_BY
from headrace.engine.identity.merge import merge
from headrace.engine.identity.unmerge import unmerge
from headrace.engine.model import Caller, Doc
from headrace.engine.segments.asked import Asked
from headrace.engine.segments.explain import explain
from headrace.engine.segments.sweep import fire_merged
from headrace.engine.store.protocol import Leased
from headrace.engine.timers.kinds import KINDS
from headrace.engine.timers.worker import TimerWorker
from tests.conftest import OpenLab
from tests.makers import Files, Lab, chain, sources
from tests.test_merge import living
from tests.test_rebuild import rebuild, sweep

START = datetime(2026, 1, 15, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
WHEN = {
    "old": "now >= profile.time.created",
    "lapsed": "events('buy', within='1d').count == 0",
    "came": "profile.stats.visits > 0",
}
TIMED = ["old", "lapsed"]
SHOP = {"consents": ["p"]}


def files(first: str = "back", **more: Any) -> Files:
    """Return a workspace of two sources, of which the shop needs a consent, and of two mails to who enters."""
    both: Doc = {"back": {}, "shop": SHOP} if first == "back" else {"shop": SHOP, "back": {}}
    given = {"consent": "p", "given": "{{ event.type == 'ok' }}"}
    return {
        "sources.json": sources(**both),
        "segments.json": {"segments": {name: {"when": when} for name, when in WHEN.items()}},
        "entered": chain("segment-entered", ("webhook", {"url": "https://crm.example/x"})),
        "said": chain(("ok", "no"), ("set_consent", given), on={"before_consent": True}),
        **more,
    }


async def visit(lab: Lab, session: str, *events: str, source: str = "shop", hours: int = 0) -> str:
    answer = await lab.track(*events, session_id=session, source=source, received=START + hours * HOUR)
    assert answer.profile is not None
    return str(answer.profile["id"])


async def in_segments(lab: Lab, profile: str) -> list[str]:
    return sorted((await living(lab, profile))["segments"])


async def entered(lab: Lab) -> list[tuple[str, Any]]:
    events = [event for event in await lab.all("event") if event["type"].startswith("segment-")]
    return sorted((event["source"], event.get("consent")) for event in events)


async def test_who_has_not_agreed_is_left_alone_by_events_sweeps_and_rebuilds(open_lab: OpenLab) -> None:
    for first in ("back", "shop"):
        async with open_lab(files(first), timers=False, outbox=False) as lab:
            guest = await visit(lab, "s-a", "view")
            assert await in_segments(lab, guest) == []
            await sweep(lab, START + 3 * HOUR)
            assert await in_segments(lab, guest) == []
            await rebuild(lab, START + 4 * HOUR)
            assert await in_segments(lab, guest) == []
            assert await entered(lab) == []
            assert await lab.all("effect") == []
            swept = [doc for doc in await lab.all("timer") if doc["kind"] == "segments"]
            assert [doc["changed"] for doc in swept if doc["status"] == "fired"] == [0]
            await lab.store.erase("main", guest)


async def test_explain_names_the_consents_that_are_missing(open_lab: OpenLab) -> None:
    async with open_lab(files(), timers=False) as lab:
        guest = await visit(lab, "s-a", "view")
        customer = await visit(lab, "s-b", "buy", source="back")
        old = next(one for one in lab.engine.workspace.watched.segments if one.name == "old")

        async def told(profile: str) -> Doc:
            found = await explain(
                lab.store, lab.engine.workspace.sources, "main", old, profile, START + 2 * HOUR
            )
            assert found is not None
            return found

        of_guest = await told(guest)
        assert (of_guest["holds"], of_guest["is_member"], of_guest["missing_consents"]) == (
            True,
            False,
            ["p"],
        )
        assert "missing_consents" not in await told(customer)
        shown = print_text(drawn(of_guest))
        assert "not given: p; time alone and a rebuild leave it where it is" in shown
        assert "changes that" not in shown
        await visit(lab, "s-a", "ok", hours=1)
        assert "missing_consents" not in await told(guest)


def print_text(tree: Tree) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(tree)
    return capture.get()


async def test_who_has_agreed_is_asked_and_who_withdrew_stays_as_it_was(open_lab: OpenLab) -> None:
    async with open_lab(files(), timers=False, outbox=False) as lab:
        guest = await visit(lab, "s-a", "ok")
        assert await in_segments(lab, guest) == sorted(WHEN)
        await visit(lab, "s-a", "buy", hours=1)
        assert await in_segments(lab, guest) == ["came", "old"]
        await visit(lab, "s-a", "no", hours=2)
        before = await lab.all("event")
        await sweep(lab, START + 40 * HOUR)
        await rebuild(lab, START + 41 * HOUR)
        assert await in_segments(lab, guest) == ["came", "old"]
        assert await lab.all("event") == before
        await visit(lab, "s-a", "ok", hours=42)
        assert await in_segments(lab, guest) == sorted(WHEN)


async def test_a_sweep_speaks_for_a_source_by_which_the_profile_came(open_lab: OpenLab) -> None:
    async with open_lab(files("shop"), timers=False, outbox=False) as lab:
        customer = await visit(lab, "s-b", "buy", source="back")
        await visit(lab, "s-a", "view")
        assert await in_segments(lab, customer) == ["came", "old"]
        await sweep(lab, START + 40 * HOUR)
        assert await in_segments(lab, customer) == sorted(WHEN)
        assert await entered(lab) == [("back", None)] * 3
        assert len(await lab.all("effect")) == 3


async def test_a_profile_of_two_sources_is_asked_for_the_consents_of_both(open_lab: OpenLab) -> None:
    async with open_lab(files(), timers=False, outbox=False) as lab:
        guest = await visit(lab, "s-a", "buy", source="back")
        await visit(lab, "s-a", "view", hours=1)
        assert (await living(lab, guest))[CAME_BY] == ["back", "shop"]
        await sweep(lab, START + 40 * HOUR)
        await rebuild(lab, START + 41 * HOUR)
        assert await in_segments(lab, guest) == ["came", "old"]
        await visit(lab, "s-a", "ok", hours=42)
        assert await in_segments(lab, guest) == sorted(WHEN)


async def test_two_that_become_one_came_by_the_sources_of_both_until_taken_apart(open_lab: OpenLab) -> None:
    async with open_lab(files(), timers=False, outbox=False) as lab:
        customer = await visit(lab, "s-b", "buy", source="back")
        guest = await visit(lab, "s-a", "view", hours=1)
        assert await merge(lab.engine.parts, "main", customer, guest, "test") == customer
        assert (await living(lab, guest))[CAME_BY] == ["back", "shop"]
        await sweep(lab, START + 40 * HOUR)
        assert await in_segments(lab, customer) == ["came", "old"]
        await lab.settle()
        await unmerge(lab.store, lab.engine.parts.locks, "main", guest)
        assert (await living(lab, customer))[CAME_BY] == ["back"]
        assert (await living(lab, guest))[CAME_BY] == ["shop"]


async def test_one_that_is_older_than_the_notes_is_asked_for_all_consents(open_lab: OpenLab) -> None:
    async with open_lab({"sources.json": sources(back={}, shop={})}, timers=False) as lab:
        profile = await visit(lab, "s-b", "buy", source="back")
        assert CAME_BY not in await living(lab, profile)
    async with open_lab(files(), timers=False, outbox=False) as lab:
        await sweep(lab, START + 30 * HOUR)
        await rebuild(lab, START + 31 * HOUR)
        assert await in_segments(lab, profile) == []
        # Nobody knows by which sources it came before.
        await visit(lab, "s-b", "view", source="back", hours=32)
        assert CAME_BY not in await living(lab, profile)
        other = await visit(lab, "s-c", "view", source="back", hours=33)
        assert await merge(lab.engine.parts, "main", profile, other, "test") == profile
        assert CAME_BY not in await living(lab, profile)


async def test_nothing_is_noted_where_no_source_asks_and_nobody_is_shown_it(open_lab: OpenLab) -> None:
    back = {"answers_profile": True, "keys": [{"secret": "SHOP_KEY"}]}
    asking = {"sources.json": sources(web={"tenant": "other"}, back=back, shop=SHOP)}
    async with open_lab(asking) as lab:
        await lab.track("view", source="web")
        assert CAME_BY not in await lab.one("profile", "other")
        secret = Caller(secret="hush")
        for _ in range(2):
            answer = await lab.track("view", source="back", session_id="s-2", caller=secret)
        assert (await lab.one("profile"))[CAME_BY] == ["back"]
        assert answer.profile is not None
        assert CAME_BY not in answer.profile


async def test_a_source_that_is_gone_counts_as_all(open_lab: OpenLab) -> None:
    async with open_lab(files()) as lab:
        asked = Asked(lab.engine.workspace.sources, "main")
        assert asked.consents({CAME_BY: ["back"]}) == ()
        assert asked.consents({CAME_BY: ["back", "gone"]}) == ("p",)
        assert asked.consents({}) == ("p",)
        source = asked.source({CAME_BY: ["gone", "shop"]})
        assert source.id == "shop"


async def test_a_merge_asks_the_segments_of_the_profile_that_lives_on(open_lab: OpenLab) -> None:
    conditions = {"big": "events('buy').count >= 3", "huge": "events('buy').count >= 4"}
    declared = {"segments": {name: {"when": when} for name, when in conditions.items()}}
    async with open_lab(files() | {"segments.json": declared}, timers=False, outbox=False) as lab:
        one = await visit(lab, "s-a", "buy", "buy", source="back")
        for session, events, source, expected in (
            ("s-b", ["buy"], "back", ["big"]),
            # With this one comes a source that asks for more than is given.
            ("s-c", ["ok", "buy", "no"], "shop", ["big"]),
        ):
            other = await visit(lab, session, *events, source=source, hours=1)
            assert await merge(lab.engine.parts, "main", one, other, "test") == one
            await lab.settle()
            (timer,) = [doc for doc in await lab.all("timer") if doc["status"] == "pending"]
            done = await fire_merged(lab.engine.parts, Leased(timer["id"], timer, "l"), START + 2 * HOUR)
            assert done["status"] == "fired"
            await lab.store.amend("timer", timer["id"], lambda doc: doc | {"status": "fired"})
            await lab.settle()
            assert await in_segments(lab, one) == expected
        assert await entered(lab) == [("back", None)]


async def test_a_profile_that_a_run_makes_after_a_wait_came_by_its_source(open_lab: OpenLab) -> None:
    late = chain("late", ("wait", {"period": "1h"}), ("create_profile", {}))
    async with open_lab(files(late=late), timers=False, outbox=False) as lab:
        await lab.collect("late", source="back", received=START)
        await lab.settle()
        await TimerWorker(lab.engine.parts, KINDS, lambda: START + 2 * HOUR).fire_due()
        assert (await lab.one("profile"))[CAME_BY] == ["back"]


async def test_workflows_that_time_alone_starts_identify_and_merge(open_lab: OpenLab) -> None:
    """As those of an event do, by the trust in their source and by what its event types say of the kind."""
    email = {"email": {"path": "event.properties.email"}}
    files: Files = {
        "sources.json": sources(shop={"keys": [{"secret": "SHOP_KEY"}]}),
        "event_types.json": {
            "event_types": {"sign-in": {"identify": email}, "buy": {}, "segment-entered": {}}
        },
        "segments.json": {"segments": {"lapsed": {"when": WHEN["lapsed"]}}},
        "entered": chain("segment-entered", ("identify", {"kind": "email", "value": " Ann@Shop.Example "})),
    }
    async with open_lab(files, timers=False) as lab:
        caller, profiles = Caller(secret="hush"), []
        for session in ("s-a", "s-b"):
            answer = await lab.track("buy", session_id=session, caller=caller, received=START)
            assert answer.profile is not None
            profiles.append(str(answer.profile["id"]))
        await sweep(lab, START + 40 * HOUR)
        both = [await living(lab, profile) for profile in profiles]
        assert both[0]["id"] == both[1]["id"]
        assert both[0]["identities"] == {"email": ["ann@shop.example"]}
        assert both[0]["segments"] == ["lapsed"]
