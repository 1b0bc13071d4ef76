"""The story of an event: all that is known of what happened to it."""

from typing import Any

from headrace.engine.model import EventInput, make_key
from tests.conftest import OpenLab
from tests.makers import Lab, chain, count, sources


async def story(lab: Lab, event: str, tenant: str = "main", source: str = "shop") -> dict[str, Any] | None:
    await lab.engine.parts.keeper.flush()
    lab.place.show()
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


async def test_an_event_that_is_not_saved_has_no_story(open_lab: OpenLab) -> None:
    async with open_lab({"w": chain("x", count())}) as lab:
        await lab.track(EventInput("x", id="e1"), save_events=False)
        assert await story(lab, "e1") is None
