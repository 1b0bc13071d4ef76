"""move_segment, copy_to_profile, update_session, event_sequence, rank_interests, value_changed."""

from typing import Any

import pytest

from headrace.engine.model import EventInput
from headrace.engine.plugin import Example
from headrace.engine.testing.example import run_example
from tests.conftest import OpenLab
from tests.makers import chain


@pytest.mark.parametrize(
    ("plugin", "config", "says"),
    [
        ("move_segment", {"from": "vip", "to": "vip"}, "same segment"),
        ("copy_to_profile", {"members": ["event.properties.a", "event.context.a"]}, "two members"),
        ("copy_to_profile", {"members": ["profile.traits.a"]}, "not a member of the event"),
        ("copy_to_profile", {"members": ["event"]}, "not a member of the event"),
        (
            "copy_to_profile",
            {"members": ["event.type"], "below": "session.properties"},
            "not in the profile",
        ),
        ("update_session", {}, "writes nothing"),
    ],
)
async def test_configs_that_cannot_work(plugin: str, config: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        await run_example(plugin, Example(config, "done"))


async def test_names_with_dots_and_quotes_are_members() -> None:
    config = {"members": ["event.properties['it\\'s.new']"]}
    ran = await run_example(
        "copy_to_profile", Example(config, "done", event={"properties": {"it's.new": [1]}})
    )
    assert ran.passage.draft.profile is not None
    assert ran.passage.draft.profile["traits"] == {"it's.new": [1]}
    ran = await run_example("update_session", Example({"context": {"it's.new": {"a": 1}}}, "done"))
    assert ran.passage.draft.session is not None
    assert ran.passage.draft.session["context"] == {"it's.new": {"a": 1}}


@pytest.mark.parametrize(
    ("before", "now", "port"),
    [
        (1, 1.0, "same"),
        (1, True, "changed"),
        (0, False, "changed"),
        ("1", 1, "changed"),
        ([1, {"a": None}], [1, {"a": None}], "same"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "same"),
        ("", "x", "changed"),
        ("x", "", "changed"),
    ],
)
async def test_when_a_value_is_another_one(before: Any, now: Any, port: str) -> None:
    config = {"field": "profile.traits.v", "value": "{{ event.properties.v }}"}
    example = Example(config, port, profile={"traits": {"v": before}}, event={"properties": {"v": now}})
    ran = await run_example("value_changed", example)
    assert (ran.port, ran.result) == (port, {"before": before, "value": now})


async def test_interests_are_ranked_by_score_and_then_by_name() -> None:
    scores = {f"i{number:02}": number % 5 for number in range(20)}
    ran = await run_example("rank_interests", Example({"top": 6}, "ranked", profile={"interests": scores}))
    assert ran.result["names"] == ["i04", "i09", "i14", "i19", "i03", "i08"]


async def test_a_sequence_over_requests_and_within_one(open_lab: OpenLab) -> None:
    config = {"events": ["a", "b", "a", "c"], "within": "1h"}
    told = {
        "on": {"event": ["c", "other"]},
        "nodes": {
            "did": {"plugin": "event_sequence", "config": config, "then": {"matched": ["yes"]}},
            "yes": {
                "plugin": "respond",
                "config": {"members": {"ids": "{{ nodes.did.events | map('id') }}"}},
            },
        },
    }

    def events(*types: str) -> list[EventInput]:
        return [EventInput(kind[0], id=kind) for kind in types]

    async with open_lab({"told": told}) as lab:
        for types in (("a1", "c1"), ("b1", "c2"), ("a2",), ("x1",)):
            assert (await lab.track(*events(*types))).response == {}
        await lab.settle()
        assert (await lab.track(*events("c3"))).response == {"ids": ["a1", "b1", "a2", "c3"]}
        # One request: all happened at the same moment, and their order is that of the request.
        answers = [
            await lab.track(*events(*types), session_id="s2") for types in (("b5", "a5", "c5"), ("a6", "c6"))
        ]
        assert [answer.response for answer in answers] == [{}, {}]
        answer = await lab.track(*events("a7", "b7", "a8", "c7"), session_id="s3")
        assert answer.response == {"ids": ["a7", "b7", "a8", "c7"]}
        # Nobody's events are in no order.
        assert (await lab.collect(EventInput("c", id="c9"))).response == {}


async def test_a_segment_is_moved_once(open_lab: OpenLab) -> None:
    files = {
        "segments.json": {"segments": {"new": {}, "vip": {}}},
        "join": chain("join", ("add_segment", {"segment": "new"})),
        "up": chain(
            "up", ("move_segment", {"from": "new", "to": "vip"}), ("respond", {"members": {"moved": True}})
        ),
    }
    async with open_lab(files) as lab:
        answers = [await lab.track(kind) for kind in ("up", "join", "up", "up")]
        assert [answer.response for answer in answers] == [{}, {}, {"moved": True}, {}]
        assert (await lab.one("profile"))["segments"] == ["vip"]
