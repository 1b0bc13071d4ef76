"""What a client is told."""

from typing import Any

import pytest

from headrace.engine.model import Caller
from tests.conftest import OpenLab
from tests.makers import chain, count, sources


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
