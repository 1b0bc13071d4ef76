"""Consents that a source needs, from the door to the answer: grant, revoke, expiry, and what is kept without them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headrace.engine.files.lint import lint
from headrace.engine.files.watch import LiveWorkspace
from headrace.engine.model import Caller, Doc, EventInput, make_key, new_id
from headrace.engine.store.protocol import Change, Committed, Ref, Write
from headrace.engine.timers.kinds import KINDS
from headrace.engine.timers.worker import TimerWorker
from tests.conftest import OpenLab
from tests.makers import Files, Lab, catalog, chain, count, sources, write_workspace

MINUTE = timedelta(minutes=1)
BEGAN = datetime(2026, 1, 15, 12, 0, 0, tzinfo=UTC)
SEE: Files = {"segments.json": {"segments": {"vip": {}}}}


def consenting(**more: Any) -> Files:
    """Return a workspace whose shop needs two consents, which `grant` records and `work` needs."""
    give = {"consent": "analytics", "given": "{{ event.properties.yes }}", "valid_for": "1d"}
    ads = {"consent": "ads", "given": "{{ event.properties.yes }}"}
    return {
        "sources.json": sources(shop={"consents": ["analytics", "ads"]}, desk={}),
        "grant": chain(
            "agree", ("set_consent", give), ("set_consent", ads), on={"before_consent": True}, order=-1
        ),
        "work": chain("*", count(), ("respond", {"members": {"n": 1}})),
        **SEE,
        **more,
    }


def agree(*, yes: Any = True) -> EventInput:
    return EventInput("agree", {"yes": yes})


async def runs(lab: Lab) -> list[Doc]:
    """Return of every event its type, and of every workflow whether it ran or why not."""
    return [
        {"type": event["type"]} | {run["workflow"]: run.get("skipped", "ran") for run in event["runs"]}
        for event in await lab.all("event")
    ]


async def test_without_consents_an_event_is_kept_and_nothing_is_done_with_it(open_lab: OpenLab) -> None:
    async with open_lab(consenting()) as lab:
        answer = await lab.track("view")
        assert (answer.errors, answer.response) == ([], {})
        assert await runs(lab) == [{"type": "view", "work": "consent"}]
        profile = await lab.one("profile")
        assert profile["stats"]["counters"] == {}
        assert (await lab.one("session"))["profile"] == profile["id"]
        # Another source of the tenant asks for nothing.
        assert (await lab.track("view", source="desk", session_id="s2")).response == {"n": 1}


async def test_granted_revoked_and_granted_again(open_lab: OpenLab) -> None:
    async with open_lab(consenting()) as lab:
        answers = [
            await lab.track(*events) for events in (("view",), (agree(), "view"), (agree(yes=False), "view"))
        ]
        assert [answer.response for answer in answers] == [{}, {"n": 1}, {}]
        assert await runs(lab) == [
            {"type": "view", "work": "consent"},
            # What was granted holds for what comes after, in the same event too.
            {"type": "agree", "grant": "ran", "work": "ran"},
            {"type": "view", "work": "ran"},
            # What was withdrawn too.
            {"type": "agree", "grant": "ran", "work": "consent"},
            {"type": "view", "work": "consent"},
        ]
        assert (await lab.track(agree())).response == {"n": 1}
        assert await lab.counter() == 3


async def test_one_of_two_is_not_enough(open_lab: OpenLab) -> None:
    one = chain(
        "agree", ("set_consent", {"consent": "ads", "given": True}), on={"before_consent": True}, order=-1
    )
    async with open_lab(consenting(grant=one)) as lab:
        assert (await lab.track(agree())).response == {}
        assert await runs(lab) == [{"type": "agree", "grant": "ran", "work": "consent"}]


async def test_it_ends_by_itself(open_lab: OpenLab) -> None:
    async with open_lab(consenting()) as lab:
        await lab.track(agree(), received=BEGAN)
        lasts = timedelta(days=1)
        before = await lab.track("view", received=BEGAN + lasts - timedelta(milliseconds=1))
        after = await lab.track("view", received=BEGAN + lasts)
        assert (before.response, after.response) == ({"n": 1}, {})


async def test_what_cannot_be_read_as_a_consent_is_none(open_lab: OpenLab) -> None:
    # Only `given: true` whose end can be read is a consent, however it came into the profile.
    files = consenting()
    files["sources.json"]["sources"]["shop"]["consents"] = ["ads"]
    bad: tuple[Any, ...] = (None, {}, {"given": "yes"}, {"given": 1}, {"given": True, "until": "soon"}, "yes")
    async with open_lab(files) as lab:
        await lab.track("first")
        for stored in bad:
            await write_consent(lab, stored)
            assert (await lab.track("view")).response == {}
        await write_consent(lab, {"given": True})
        assert (await lab.track("view")).response == {"n": 1}


async def write_consent(lab: Lab, stored: Any) -> None:
    """Write something as the consent `ads` of the only profile, past every check."""
    profile = await lab.one("profile")
    ref = Ref("profile", make_key("profile", "main", profile["id"]))
    (found,) = await lab.store.read([ref])
    assert found is not None
    found.doc["consents"]["ads"] = stored
    write = Write(ref.key, found.doc, found.version)
    assert await lab.store.commit(Change(new_id(), "main", profile=write)) == Committed()


async def test_a_workflow_of_its_own_consent_needs_both(open_lab: OpenLab) -> None:
    late = chain("*", ("respond", {"members": {"late": 1}}), on={"consent": ["more"]})
    more = chain("x", ("set_consent", {"consent": "more", "given": True}))
    async with open_lab(consenting(late=late, more=more)) as lab:
        assert (await lab.track("x")).response == {}
        assert (await lab.track(agree())).response == {"n": 1}
        assert (await lab.track("x", "view")).response == {"n": 1, "late": 1}


async def test_events_that_others_cause_and_workflows_that_others_start_need_it_too(
    open_lab: OpenLab,
) -> None:
    told = chain(
        "agree",
        ("emit", {"given": ["inner"]}),
        ("start_workflow", {"workflow": "asked"}),
        on={"before_consent": True},
    )
    asked = chain("never", ("respond", {"members": {"asked": 1}}), on={"started": True})
    files = consenting(told=told, asked=asked)
    async with open_lab(files) as lab:
        assert (await lab.track(agree(yes=False))).response == {}
        found = await runs(lab)
        assert {"type": "inner", "work": "consent"} in found
        assert next(run for run in found if run["type"] == "agree")["asked"] == "consent"


async def test_without_a_profile_nobody_has_agreed(open_lab: OpenLab) -> None:
    async with open_lab(consenting()) as lab:
        await lab.collect("view")
        assert await runs(lab) == [{"type": "view", "work": "consent"}]


async def test_a_run_that_waits_ends_when_the_consent_is_gone(open_lab: OpenLab) -> None:
    waits = chain("buy", ("wait", {"period": "1h"}), count("profile.stats.counters.waited"))
    later = BEGAN + timedelta(hours=1)
    async with open_lab(consenting(work=waits), timers=False) as lab:
        await lab.track(agree(), "buy", received=BEGAN)
        await lab.track(agree(yes=False), received=BEGAN)
        await lab.settle()
        assert await TimerWorker(lab.engine.parts, KINDS, lambda: later).fire_due() == 1
        timer = await lab.one("timer")
        assert (timer["status"], timer["reason"]) == (
            "cancelled",
            "the consent analytics does not hold any more",
        )
        assert (await lab.one("profile"))["stats"]["counters"] == {}


@pytest.mark.parametrize("is_broken", [False, True])
async def test_a_run_that_waits_ends_when_the_consent_of_its_workflow_is_gone(
    open_lab: OpenLab, *, is_broken: bool
) -> None:
    given = {"consent": "mail", "given": "{{ event.properties.yes }}"}
    waits = chain(
        "buy",
        ("wait", {"period": "1h"}),
        ("webhook", {"url": "https://crm.example/buy"}),
        on={"consent": ["mail"]},
    )
    later = BEGAN + timedelta(hours=1)
    files = {"grant": chain("agree", ("set_consent", given)), "waits": waits}
    async with open_lab(files, timers=False, outbox=False) as lab:
        await lab.track(agree(), "buy", received=BEGAN)
        await lab.track(agree(yes=False), received=BEGAN)
        await lab.settle()
        if is_broken:
            # A server that starts with a file that does not load knows only the version of the run.
            live = lab.engine.parts.live
            (live.current.path / "workflows" / "waits.json").write_text("{")
            live.current = LiveWorkspace(live.current.path, catalog(), lambda _: None).current
        assert await TimerWorker(lab.engine.parts, KINDS, lambda: later).fire_due() == 1
        timer = await lab.one("timer")
        assert (timer["status"], timer["reason"]) == ("cancelled", "the consent mail does not hold any more")
        assert await lab.all("effect") == []


# Lint


def problems(folder: Path, files: Files) -> list[tuple[str, str]]:
    found = lint(write_workspace(folder, files), catalog(), lambda _: None)
    return [(problem.code, f"{problem.file}: {problem.place}") for problem in found]


def test_a_consent_that_nothing_can_record(tmp_path: Path) -> None:
    good = consenting()
    good["sources.json"] = sources(shop={"consents": ["analytics", "ads"]})
    assert problems(tmp_path / "good", good) == []
    late = {**good, "grant": {**good["grant"], "on": {"event": ["agree"]}}}
    at = "sources.json: sources.shop.consents"
    assert problems(tmp_path / "late", late) == [("S05", f"{at}[0]"), ("S05", f"{at}[1]")]
    # The desk, which needs none, may record them.
    late["sources.json"] = consenting()["sources.json"]
    assert problems(tmp_path / "desk", late) == []
    late["grant"] = {**late["grant"], "on": {"event": ["agree"], "source": ["shop"]}}
    assert problems(tmp_path / "shop", late) == [("S05", f"{at}[0]"), ("S05", f"{at}[1]")]


def test_a_workflow_before_consent_that_does_more(tmp_path: Path) -> None:
    files = consenting(
        told=chain(
            "agree",
            ("webhook", {"url": "https://crm.example/"}),
            ("log", {"message": "hi"}),
            on={"before_consent": True},
        )
    )
    assert problems(tmp_path, files) == [("W23", "workflows/told.json: nodes.n0.plugin")]


@pytest.mark.parametrize("names", [["a b"], "analytics", [""], [1], ["x"] * 21])
def test_names_of_consents_are_checked(tmp_path: Path, names: Any) -> None:
    files = consenting()
    files["sources.json"]["sources"]["shop"]["consents"] = names
    assert problems(tmp_path, files)[0][0] in ("M03", "M04")


# What event types, segments and goals do


TYPES: Doc = {
    "event_types": {
        "agree": {"identify": {"customer": {"path": "event.properties.who"}}},
        "view": {"map": {"profile.traits.page": "{{ event.properties.page }}"}, "tags": ["seen"]},
    }
}


async def test_without_consents_nothing_is_mapped_counted_or_achieved(open_lab: OpenLab) -> None:
    often = {"when": "events('view', within='9d').count >= 2"}
    files = consenting(
        **{
            "event_types.json": TYPES,
            "segments.json": {"segments": {"often": often, "anybody": {"when": "profile.stats.visits >= 0"}}},
            "goals.json": {"goals": {"seen": {"event": ["view"]}}},
        }
    )
    async with open_lab(files) as lab:
        views = [EventInput("view", {"page": page}) for page in "ab"]
        await lab.track(*views, received=BEGAN)
        profile = await lab.one("profile")
        assert (profile["traits"], profile["segments"], profile.get("goals")) == ({}, [], None)
        assert [event["consent"] for event in await lab.all("event")] == [False, False]
        # What came before is not counted later either.
        await lab.track(agree(), EventInput("view", {"page": "c"}), received=BEGAN + MINUTE)
        profile = await lab.one("profile")
        assert (profile["traits"], profile["segments"]) == ({"page": "c"}, ["anybody"])
        assert profile["goals"]["seen"]["count"] == 1
        await lab.settle()
        await lab.track("view", received=BEGAN + 2 * MINUTE)
        assert sorted((await lab.one("profile"))["segments"]) == ["anybody", "often"]


async def test_whose_it_is_is_known_before_what_they_agreed_to(open_lab: OpenLab) -> None:
    entries: Any = {"keys": [{"secret": "SHOP_KEY"}], "consents": ["analytics", "ads"]}
    files = consenting(**{"event_types.json": TYPES, "sources.json": sources(shop=entries)})
    async with open_lab(files) as lab:

        async def said(who: str, *, yes: bool) -> Any:
            event = EventInput("agree", {"who": who, "yes": yes})
            return await lab.track(event, caller=Caller(secret="hush"), profile=True)

        ann = await said("ann", yes=True)
        # On the same device; what Bob says is not Ann's word.
        bob = await said("bob", yes=False)
        assert (ann.response, bob.response) == ({"n": 1}, {})
        assert ann.profile is not None
        assert bob.profile is not None
        assert ann.profile["id"] != bob.profile["id"]
        given = {doc["id"]: doc["consents"]["ads"]["given"] for doc in await lab.all("profile")}
        assert given == {ann.profile["id"]: True, bob.profile["id"]: False}
