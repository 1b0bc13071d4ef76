"""The story of an event: all that is known of what happened to it."""

from typing import Any

from headrace.engine.model import Caller, EventInput, make_key
from headrace.engine.story import story_of_refused
from tests.conftest import OpenLab
from tests.makers import Lab, chain, count, sources


async def story(lab: Lab, event: str, tenant: str = "main", source: str = "shop") -> dict[str, Any] | None:
    await lab.engine.parts.keeper.flush()
    await lab.settle()
    return await lab.engine.story(tenant, make_key("event", tenant, source, event))


async def test_a_whole_story(open_lab: OpenLab) -> None:
    files = {
        "sources.json": sources(shop={"trace": True}, other={}),
        "counts": chain("x", count(), ("defer", {})),
        "breaks": chain("x", ("fail", {"message": "no"})),
        "no-source": chain("x", count(), on={"source": ["other"]}),
        "no-when": chain("x", count(), on={"when": "event.properties.gone"}),
        "no-consent": chain("x", count(), on={"consent": ["marketing"]}),
        "off": chain("x", count(), enabled=False),
        "x-stops": chain("x", count(), stop=True, order=1),
        "y-stopped": chain("x", count(), order=2),
        "never": chain("y", count()),
    }
    async with open_lab(files) as lab:
        answer = await lab.track(EventInput("x", {"a": 1}, id="e1"))
        told = await story(lab, "e1")
        assert told is not None
        assert answer.profile is not None
        assert (told["door"], told["profile"], told["session"]) == ("track", answer.profile["id"], "s1")
        assert (told["event"]["id"], told["event"]["properties"]) == ("e1", {"a": 1})
        assert "runs" not in told["event"]
        runs = {run["workflow"]: run for run in told["runs"]}
        assert list(runs) == ["breaks", "counts", "x-stops"]
        assert (runs["breaks"]["error"], runs["breaks"]["path"]) == ("n0: no", "n0.error")
        assert runs["counts"]["trace"]["nodes"]["n0"]["changes"][0]["after"] == 1
        assert {run["workflow"]: (run["skipped"], run["why"]) for run in told["skipped"]} == {
            "no-source": ("source", "the workflow does not take events of this source"),
            "no-when": ("when", "condition false"),
            "no-consent": ("consent", "a consent is missing"),
            "off": ("disabled", "disabled"),
            "y-stopped": ("stopped", "an earlier workflow stopped the event"),
        }
        (effect,), (timer,) = told["effects"], told["timers"]
        assert (effect["workflow"], effect["node"], effect["status"]) == ("counts", "n1", "pending")
        assert timer["event"] == effect["event"] == told["event"]["key"]


async def test_a_story_without_traces(open_lab: OpenLab) -> None:
    async with open_lab({"w": chain("x", count())}) as lab:
        await lab.track(EventInput("x", id="e1"))
        told = await story(lab, "e1")
        assert told is not None
        assert ["trace" in run for run in told["runs"]] == [False]
        assert told["effects"] == told["timers"] == told["skipped"] == []


async def test_a_story_is_its_tenants(open_lab: OpenLab) -> None:
    async with open_lab({"sources.json": sources(shop={}, theirs={"tenant": "other"})}) as lab:
        await lab.track(EventInput("x", id="e1"), source="theirs")
        key = make_key("event", "other", "theirs", "e1")
        assert await lab.engine.story("main", key) is None
        assert await lab.engine.story("other", key) is not None
        assert await lab.engine.story("other", "0" * 32) is None


async def test_whose_an_event_is_and_why(open_lab: OpenLab) -> None:
    files = {
        "sources.json": sources(shop={}, back={"keys": [{"secret": "SHOP_KEY"}], "trust_profile_ids": True}),
        "attaches": chain("attach", ("attach", {"given": {"profile": "who"}})),
    }
    async with open_lab(files) as lab:
        first = await lab.track(EventInput("x", id="new"))
        assert first.profile is not None
        mine = first.profile["id"]
        await lab.track(EventInput("x", id="session"))
        await lab.track(EventInput("x", id="client"), session_id="s2", profile_id=mine)
        await lab.track(EventInput("x", id="asked"), session_id="s3", profile_id="made-up")
        await lab.track(EventInput("x", id="other"), session_id="s3", profile_id=mine)
        trusted = {"source": "back", "caller": Caller(secret="hush"), "session_id": "s4"}
        await lab.track(EventInput("x", id="chosen"), profile_id="mine", **trusted)
        await lab.collect(EventInput("attach", {"who": mine}, id="workflow"))
        await lab.collect(EventInput("x", id="nobody"))
        told = {
            id: await story(lab, id)
            for id in ("new", "session", "client", "asked", "other", "workflow", "nobody")
        }
        told["chosen"] = await story(lab, "chosen", source="back")
        identities = {id: one["identity"] for id, one in told.items() if one is not None}
        assert {id: one["by"] for id, one in identities.items()} == {
            "new": "new",
            "session": "session",
            "client": "client",
            "asked": "new",
            "other": "session",
            "chosen": "chosen",
            "workflow": "workflow",
            "nobody": None,
        }
        assert {id: one["asked"] for id, one in identities.items() if "asked" in one} == {
            "asked": "made-up",
            "other": mine,
        }
        assert identities["client"]["profile"] == identities["workflow"]["profile"] == mine
        assert identities["nobody"] == {
            "profile": None,
            "session": None,
            "by": None,
            "why": "the event has no profile",
        }


async def test_what_caused_what(open_lab: OpenLab) -> None:
    files = {
        "outer": chain("x", ("emit", {"given": ["inner", "inner"]})),
        "inner": chain("inner", ("emit", {"given": ["innermost"]})),
    }
    async with open_lab(files) as lab:
        await lab.track(EventInput("x", id="e1"), EventInput("x", id="e2"))
        told = await story(lab, "e1")
        assert told is not None
        assert [each["type"] for each in told["caused"]] == ["inner", "inner"]
        assert told["caused_by"] is None
        key = told["caused"][0]["key"]
        inner = await lab.engine.story("main", key)
        assert inner is not None
        assert inner["caused_by"] == {"id": "e1", "key": told["event"]["key"], "type": "x"}
        assert (inner["identity"]["by"], inner["door"]) == ("cause", "internal")
        (innermost,) = inner["caused"]
        last = await lab.engine.story("main", innermost["key"])
        assert last is not None
        assert last["caused_by"] == {"id": key, "key": key, "type": "inner"}


async def test_what_was_refused_under_its_id(open_lab: OpenLab) -> None:
    schema = {"properties": {"total": {"type": "number"}}}
    async with open_lab({"event_types.json": {"event_types": {"x": {"schema": schema}}}}) as lab:
        await lab.track(EventInput("x", {"total": "much"}, id="e1"))
        await lab.settle()
        refused = await story_of_refused(lab.store, "main", "e1")
        assert refused is not None
        assert (refused["event"], [one["code"] for one in refused["refused"]]) == (None, ["schema"])
        assert await story(lab, "e1") is None
        await lab.track(EventInput("x", {"total": 1}, id="e1"))
        await lab.track(EventInput("x", {"total": 2}, id="e1"))
        told = await story(lab, "e1")
        assert told is not None
        assert [one["code"] for one in told["refused"]] == ["schema", "id_reused"]
        # A story has the same members, whatever is known.
        assert told.keys() == refused.keys()
        assert await story_of_refused(lab.store, "main", "e2") is None


async def test_an_event_that_is_not_saved_has_no_story(open_lab: OpenLab) -> None:
    async with open_lab({"w": chain("x", count())}) as lab:
        await lab.track(EventInput("x", id="e1"), save_events=False)
        assert await story(lab, "e1") is None
