"""discard_changes: what it turns back, what stays, and that a failure turns it back itself."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest

from headrace.engine.model import Doc, EventInput
from headrace.engine.plugin import NodeError, Out, Step
from headrace.engine.run import run_workflow
from headrace.plugins.discard_changes import DiscardChangesConfig
from tests.conftest import OpenLab
from tests.makers import Does, chain, make_passage, make_workflow

BEFORE: Doc = {
    "traits": {"name": "Ann", "address": {"city": "Oslo"}, "tags": ["a"]},
    "segments": ["new"],
    "interests": {"tea": 1},
    "consents": {},
}


def write(*changes: tuple[str, str, Any]) -> Does:
    """Return a node that writes: operation, path, value."""

    def does(step: Step) -> Out:
        for op, path, value in changes:
            getattr(step, op)(path, value)
        return Out("a")

    return does


def discard(**of: bool) -> Does:
    def does(step: Step) -> Out:
        step.discard(**of)
        return Out("a")

    return does


async def run(*nodes: Does, profile: Mapping[str, Any] = BEFORE) -> Any:
    """Run nodes one after another; returns the passage."""
    names = [f"n{number}" for number in range(len(nodes))]
    after: dict[str, Doc] = {
        name: {"then": {"a": names[number + 1 : number + 2]}} for number, name in enumerate(names)
    }
    workflow = make_workflow(after, dict(zip(names, nodes, strict=True)))
    passage = make_passage(deepcopy(dict(profile)))
    await run_workflow(workflow, passage)
    return passage


ALL = (
    ("set", "profile.traits.name", "Bob"),
    ("set", "profile.traits.name", "Kim"),
    ("set", "profile.traits.address", {"zip": 1}),
    ("set", "profile.traits.address.street", "High"),
    ("set", "profile.traits.deep.er.still", 1),
    ("append", "profile.traits.tags", "b"),
    ("increment", "profile.stats.counters.orders", 2),
    ("increment", "profile.interests.tea", 4),
    ("add", "profile.segments", "vip"),
    ("remove", "profile.segments", "new"),
    ("set", "session.properties.cart", 5),
    ("set", "session.context.page", {"url": "/"}),
)


async def test_all_is_as_it_was() -> None:
    clean = make_passage(deepcopy(BEFORE)).draft
    passage = await run(write(*ALL[:6]), write(*ALL[6:]), discard())
    assert passage.draft.profile == clean.profile
    assert passage.draft.session == clean.session
    # An undo of everything finds the same.
    passage.undo()
    assert passage.draft.profile == clean.profile


async def test_only_the_one_or_the_other() -> None:
    passage = await run(write(*ALL), discard(profile=False))
    assert passage.draft.session["properties"] == {}
    assert passage.draft.profile["traits"]["name"] == "Kim"
    passage = await run(write(*ALL), discard(session=False))
    assert passage.draft.session["properties"] == {"cart": 5}
    assert passage.draft.profile["traits"] == BEFORE["traits"]


async def test_what_comes_later_stays_and_can_be_dropped_again() -> None:
    later = write(("set", "profile.traits.name", "Eve"), ("set", "profile.traits.deep.down", 2))
    passage = await run(write(*ALL), discard(), later)
    assert passage.draft.profile["traits"] == BEFORE["traits"] | {"name": "Eve", "deep": {"down": 2}}
    passage = await run(write(*ALL), discard(), later, discard())
    assert passage.draft.profile["traits"] == BEFORE["traits"]
    # A trace shows all of it.
    assert [edit.path for edit in passage.edits].count("profile.traits.name") > 4


async def test_consents_marks_and_what_is_no_field_stay() -> None:
    def does(step: Step) -> Out:
        step.set("profile.consents.mail", {"given": False})
        step.mark("seen")
        step.respond("hello", 1)
        step.emit("told", {})
        step.set("profile.traits.name", "Bob")
        return Out("a")

    passage = await run(does, discard())
    profile = passage.draft.profile
    assert profile["consents"] == {"mail": {"given": False}}
    assert (profile["traits"], list(profile["marks"])) == (BEFORE["traits"], ["seen"])
    assert (passage.response, len(passage.emitted)) == ({"hello": 1}, 1)


async def test_a_node_that_fails_after_discarding_drops_nothing() -> None:
    def does(step: Step) -> Out:
        step.discard()
        step.increment("profile.traits.name", 1)
        return Out("a")

    def raises(step: Step) -> Out:
        step.discard()
        raise NodeError("no")

    for last in (does, raises):
        passage = await run(write(*ALL), last)
        assert passage.draft.profile["traits"]["name"] == "Kim"
        assert passage.draft.profile["traits"]["deep"] == {"er": {"still": 1}}
        assert passage.draft.profile["segments"] == ["vip"]


async def test_nodes_of_one_wave_go_by_the_files_order() -> None:
    nodes: dict[str, Doc] = {"first": {"then": {"a": ["drop", "beside"]}}, "drop": {}, "beside": {}}
    does = {
        "first": write(("set", "profile.traits.name", "Bob"), ("set", "profile.traits.new.one", 1)),
        "drop": discard(),
        "beside": write(("set", "profile.traits.name", "Eve"), ("set", "profile.traits.new.two", 2)),
    }
    passage = make_passage(deepcopy(BEFORE))
    await run_workflow(make_workflow(nodes, does), passage)
    profile = passage.draft.profile
    assert profile is not None
    assert profile["traits"] == BEFORE["traits"] | {"name": "Eve", "new": {"two": 2}}


async def test_it_reaches_into_the_workflows_before(open_lab: OpenLab) -> None:
    fields = {"profile.traits.name": "Bob", "session.properties.seen": True}
    files = {
        "a": chain(
            "x", ("set_fields", {"fields": fields}), ("set_consent", {"consent": "mail", "given": True})
        ),
        "b": chain(
            "x",
            ("increment", {"field": "profile.stats.counters.n"}),
            ("discard_changes", {"of": ["profile"]}),
        ),
        "c": chain("x", ("set_fields", {"fields": {"profile.traits.last": 1}})),
    }
    async with open_lab(files) as lab:
        await lab.track(EventInput("x"))
        profile = await lab.one("profile")
        assert (profile["traits"], profile["stats"]["counters"]) == ({"last": 1}, {})
        assert profile["consents"]["mail"]["given"] is True
        assert (await lab.one("session"))["properties"] == {"seen": True}


@pytest.mark.parametrize("of", [[], ["vars"], "profile"])
def test_what_it_may_drop(of: Any) -> None:
    with pytest.raises(ValueError, match="of"):
        DiscardChangesConfig.model_validate({"of": of})
