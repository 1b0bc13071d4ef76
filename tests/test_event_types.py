"""Event types: versions, conditions, reshaping, tags, and what is mapped to profile and session."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine.errors import HeadraceError
from headrace.engine.files.event_type import EventType, EventTypeFile
from headrace.engine.model import Doc, EventInput
from headrace.engine.passage import Passage
from headrace.engine.replay.apply import apply_workflow
from headrace.engine.replay.dry import past_job
from headrace.engine.steps.mapping import map_fields, reshape
from tests.conftest import OpenLab
from tests.makers import Files, Lab, chain, count, make_passage
from tests.pace import timed

NUMBER = {"properties": {"total": {"type": "number"}}, "required": ["total"]}


def kind_of(**members: Any) -> EventType:
    return EventType("made", EventTypeFile.model_validate(members))


def types(**entries: Any) -> Files:
    return {"event_types.json": {"event_types": entries}, "count": chain("*", count())}


def passed(properties: dict[str, Any], kind: EventType, **more: Any) -> Passage:
    """Return an event that a type has reshaped and mapped."""
    passage = make_passage(event={"properties": properties, "errors": []}, **more)
    reshape(passage, kind)
    map_fields(passage, kind)
    return passage


def of_profile(passage: Passage) -> dict[str, Any]:
    assert passage.draft.profile is not None
    return passage.draft.profile


TEXT_OR_OBJECT = {"anyOf": [{"type": "string"}, {"required": ["x"], "type": "object"}]}


@pytest.mark.parametrize(
    ("schema", "properties"),
    [
        ({"propertyNames": {"pattern": "^a"}}, {f"k{n}": 1 for n in range(2000)}),
        ({"propertyNames": {"pattern": "^a"}}, {f"k{n}": 1 for n in range(40_000)}),
        ({"properties": {"a": {"items": {"enum": list(range(1000))}}}}, {"a": [0.5] * 1200}),
        ({"properties": {"a": {"items": TEXT_OR_OBJECT}}}, {"a": [1] * 100_000}),
        ({"additionalProperties": False}, {f"k{n}": [{}] for n in range(20_000)}),
    ],
)
def test_what_is_wrong_many_times_is_told_soon(schema: Doc, properties: Doc) -> None:
    """All errors of many values would take seconds and gigabytes: each has a copy of what it is about."""
    kind = kind_of(schema=schema)
    with timed() as took:
        (error,) = kind.check(properties)
    assert took.seconds < 0.2
    assert error.message


def test_each_error_of_few_values_is_told() -> None:
    kind = kind_of(schema={"additionalProperties": {"type": "string"}})
    assert [error.pointer for error in kind.check({"a": 1, "b": "x", "c": 2})] == ["/a", "/c"]
    assert len(kind.check({f"k{n}": n for n in range(90)})) == 20


def test_of_many_values_each_member_has_a_reason_of_its_own() -> None:
    schema = {
        "properties": {
            "kind": {"enum": ["a"]},
            "list": {"items": {"type": "string"}},
            "n": {"type": "number"},
        },
        "if": {"properties": {"kind": {"const": "b"}}, "required": ["kind"]},
        "else": {"properties": {"n": {"type": "string"}}},
    }
    properties = {"kind": "b", "list": [1] * 1000, "n": 5}
    errors = kind_of(schema=schema).check(properties)
    # Without its kind, `n` would be wrong, which it is not.
    assert sorted(error.pointer for error in errors) == ["/kind", "/list/0"]


async def failed_code(lab: Lab) -> tuple[str, str]:
    failed = await lab.one("failed")
    return failed["code"], failed["reasons"][0]["message"]


# Versions and conditions


@pytest.mark.parametrize(
    "draft", ["https://json-schema.org/draft/2020-12/schema", "http://json-schema.org/draft-07/schema#"]
)
@pytest.mark.parametrize(
    ("name", "value", "is_taken"),
    [
        ("email", "ann@example.com", True),
        ("email", "no mail at all", False),
        ("date", "2026-02-29", False),
        ("date-time", "2026-01-15T12:00:00Z", True),
        ("date-time", "2026-01-15 noon", False),
        ("phone", "anything", True),
    ],
)
def test_formats_are_checked_in_every_draft(name: str, value: str, is_taken: bool, draft: str) -> None:
    schema = {"$schema": draft, "properties": {"of": {"type": "string", "format": name}}}
    found = [error.message for error in kind_of(schema=schema).check({"of": value})]
    assert found == ([] if is_taken else [f'the value is not a "{name}"'])


async def test_an_event_is_checked_against_the_version_that_it_names(open_lab: OpenLab) -> None:
    order = {"schema": NUMBER, "versions": {"2": {"schema": {"required": ["sum"]}}, "3": {}}}
    async with open_lab(types(order=order)) as lab:
        answer = await lab.track(
            EventInput("order", {"total": 1}, id="plain"),
            EventInput("order", {"sum": 1}, id="second", version="2"),
            EventInput("order", {}, id="third", version="3"),
            EventInput("order", {"total": 1}, id="wrong", version="2"),
            EventInput("other", {}, id="undeclared", version="any"),
        )
        assert [(error.event, error.code) for error in answer.errors] == [("wrong", "schema")]
        kept = {event["id"]: event.get("version") for event in await lab.all("event")}
        assert kept == {"plain": None, "second": "2", "third": "3", "undeclared": "any"}
        assert (await lab.one("failed"))["raw"]["version"] == "2"


async def test_an_unknown_version_is_refused_and_those_that_exist_are_named(open_lab: OpenLab) -> None:
    async with open_lab(types(order={"versions": {"2": {}, "2026-01": {}}})) as lab:
        answer = await lab.track(EventInput("order", id="e1", version="1"))
        assert [(error.event, error.code) for error in answer.errors] == [("e1", "version")]
        message = "the event type 'order' has no version '1'; it has: '2', '2026-01'"
        assert await failed_code(lab) == ("version", message)
        # The same id with another version is another refusal, and one that fits is taken.
        await lab.track(EventInput("order", id="e1", version="9"))
        assert len(await lab.all("failed")) == 2
        assert (await lab.track(EventInput("order", id="e1", version="2"))).errors == []
        assert await lab.counter() == 1


async def test_a_type_without_versions_takes_any(open_lab: OpenLab) -> None:
    async with open_lab(types(order={"schema": NUMBER})) as lab:
        answer = await lab.track(
            EventInput("order", {"total": 1}, version="x"), EventInput("order", id="bad", version="x")
        )
        assert [error.event for error in answer.errors] == ["bad"]


async def test_a_condition_refuses_events_for_which_it_does_not_hold(open_lab: OpenLab) -> None:
    entry = {"condition": "event.properties.total >= 0 and source.id == 'shop'"}
    async with open_lab(types(order=entry)) as lab:
        answer = await lab.track(
            EventInput("order", {"total": 1}), EventInput("order", {"total": -1}, id="bad"), "order"
        )
        assert [error.code for error in answer.errors] == ["condition"] * 2
        assert answer.errors[0].message == f"the condition of 'order' does not hold: {entry['condition']}"
        assert await lab.counter() == 1
        assert (await lab.one("profile"))["stats"]["views"] == 0


async def test_a_condition_sees_what_events_before_it_made_of_the_profile(open_lab: OpenLab) -> None:
    entry = {"condition": "not profile.traits.done", "map": {"profile.traits.done": True}}
    async with open_lab(types(once=entry)) as lab:
        answer = await lab.track("once", EventInput("once", id="second"))
        assert [error.event for error in answer.errors] == ["second"]


async def test_a_condition_that_fails_refuses_too(open_lab: OpenLab) -> None:
    entry = {"condition": "event.properties.a | replace('x', 'yyyyyyyyyy') == 1"}
    async with open_lab(types(order=entry)) as lab:
        answer = await lab.track(EventInput("order", {"a": "x" * 200_000}))
        assert [error.code for error in answer.errors] == ["condition"]
        code, message = await failed_code(lab)
        assert (code, "failed: the result is larger than 1 MiB" in message) == ("condition", True)


# Reshaping and tags


async def test_properties_are_made_anew_and_what_was_sent_stays_known(open_lab: OpenLab) -> None:
    entry = {
        "schema": {"required": ["sum"], "additionalProperties": True},
        "reshape": {"total": "{{ event.properties.sum }}", "sum": None, "address.city": "Oslo"},
        "tags": ["sale"],
    }
    files = types(order=entry) | {
        "on_tag": chain(
            "order",
            count("profile.stats.counters.sales"),
            on={"when": "'sale' in event.tags and event.properties.total > 5"},
        )
    }
    async with open_lab(files) as lab:
        sent = {"sum": 7, "address": {"street": "A"}, "big": 10**30}
        await lab.track(EventInput("order", sent, id="e1"))
        event = await lab.one("event")
        assert event["properties"] == {
            "total": 7,
            "address": {"street": "A", "city": "Oslo"},
            "big": 10**30,
        }
        assert (event["tags"], event["reshaped"]) == (["sale"], True)
        assert await lab.counter("sales") == 1
        # It is known by what was sent.
        assert (
            await lab.track(
                EventInput("order", {"sum": 7, "address": {"street": "A"}, "big": 10**30}, id="e1")
            )
        ).errors == []
        assert await lab.counter("sales") == 1


def test_what_was_sent_is_not_touched_by_reshaping() -> None:
    sent = {"a": {"b": [1]}, "c": 1}
    before = deepcopy(sent)
    kind = kind_of(
        reshape={"a.b": "{{ event.properties.c }}", "c": None, "a.x": "{{ event.properties.a.b }}"}
    )
    passage = passed(sent, kind)
    assert sent == before
    # All templates read the event as it was sent.
    assert passage.event["properties"] == {"a": {"b": 1, "x": [1]}}


def test_what_cannot_be_reshaped_is_told_and_the_rest_goes_on() -> None:
    kind = kind_of(reshape={"a.b": 1, "c": "{{ event.properties.nothing }}", "d": 2})
    passage = passed({"a": "text"}, kind)
    assert passage.event["properties"] == {"a": "text", "d": 2}
    assert len(passage.event["errors"]) == 1
    assert passage.event["errors"][0].startswith("event.properties.a.b: ")


# Mapping

EVERY_WAY = {
    "profile.traits.email": "{{ event.properties.mail | lower }}",
    "profile.traits.first_shop": {"set_if_missing": "{{ source.id }}"},
    "profile.stats.counters.orders": {"increment": 1},
    "profile.stats.counters.spent": {"increment": "{{ event.properties.total }}"},
    "profile.traits.skus": {"append": "{{ event.properties.sku }}"},
    "profile.traits.seen": {"set": {"by": ["{{ event.type }}"], "it": None}},
    "profile.traits.gone": None,
    "session.properties.cart": {"set": "{{ event.properties.cart }}"},
}


def test_every_way_to_map() -> None:
    properties = {"mail": "A@B.C", "total": 9.5, "sku": "x", "cart": {"n": 1}}
    passage = passed(properties, kind_of(map=EVERY_WAY), profile={"traits": {"gone": 1, "skus": ["w"]}})
    profile = of_profile(passage)
    assert profile["traits"] == {
        "email": "a@b.c",
        "first_shop": "shop",
        "skus": ["w", "x"],
        "seen": {"by": ["made"], "it": None},
        "gone": None,
    }
    assert profile["stats"]["counters"] == {"orders": 1, "spent": 9.5}
    assert passage.draft.session is not None
    assert passage.draft.session["properties"] == {"cart": {"n": 1}}
    assert passage.event["errors"] == []


def test_a_template_that_gives_nothing_leaves_its_field() -> None:
    traits = {"email": "a@b.c", "first_shop": "first", "skus": ["w"]}
    passage = passed({"mail": None}, kind_of(map=EVERY_WAY), profile={"traits": dict(traits)})
    profile = of_profile(passage)
    assert profile["traits"] == traits | {"seen": {"by": ["made"], "it": None}, "gone": None}
    assert profile["stats"]["counters"] == {"orders": 1}


def test_set_if_missing_takes_null_for_missing() -> None:
    kind = kind_of(map={"profile.traits.a": {"set_if_missing": 1}})
    assert of_profile(passed({}, kind, profile={"traits": {"a": None}}))["traits"] == {"a": 1}
    assert of_profile(passed({}, kind, profile={"traits": {"a": 0}}))["traits"] == {"a": 0}


def test_all_values_are_found_before_the_first_is_written() -> None:
    kind = kind_of(
        map={"profile.traits.a": "{{ profile.traits.b }}", "profile.traits.b": "{{ profile.traits.a }}"}
    )
    assert of_profile(passed({}, kind, profile={"traits": {"a": 1, "b": 2}}))["traits"] == {"a": 2, "b": 1}


def test_what_cannot_be_mapped_is_told_and_the_rest_goes_on() -> None:
    kind = kind_of(
        map={
            "profile.traits.name": {"increment": 1},
            "profile.stats.counters.n": {"increment": "{{ event.properties.text }}"},
            "profile.traits.text.x": 1,
            "profile.stats.counters.m": {"set": "{{ event.properties.text }}"},
            "profile.traits.good": 1,
        }
    )
    passage = passed({"text": "a"}, kind, profile={"traits": {"name": "Ann", "text": "a"}})
    profile = of_profile(passage)
    assert profile["traits"] == {"name": "Ann", "text": "a", "good": 1}
    assert profile["stats"]["counters"] == {}
    assert [error.partition(":")[0] for error in passage.event["errors"]] == [
        "profile.stats.counters.n",
        "profile.traits.name",
        "profile.traits.text.x",
        "profile.stats.counters.m",
    ]
    assert len(passage.log) == 4


def test_without_a_profile_only_the_session_is_written() -> None:
    passage = passed({"cart": 1, "mail": "a"}, kind_of(map=EVERY_WAY), without_profile=True)
    assert passage.draft.session is not None
    assert passage.draft.session["properties"] == {"cart": 1}
    assert passage.event["errors"] == []


async def test_workflows_see_what_was_mapped_and_it_is_kept(open_lab: OpenLab) -> None:
    entry = {
        "map": {
            "profile.stats.counters.mapped": {"increment": 1},
            "session.properties.last": "{{ event.id }}",
        }
    }
    sees = chain("x", count("profile.stats.counters.seen"), on={"when": "profile.stats.counters.mapped >= 1"})
    files = {"event_types.json": {"event_types": {"x": entry}}, "sees": sees}
    async with open_lab(files) as lab:
        for number in range(3):
            await lab.track(EventInput("x", id=f"e{number}"))
        assert (await lab.counter("mapped"), await lab.counter("seen")) == (3, 3)
        await lab.track(EventInput("x", id="e0"))
        assert await lab.counter("mapped") == 3
        assert (await lab.one("session"))["properties"] == {"last": "e2"}


async def test_a_mapping_without_any_workflow_is_written(open_lab: OpenLab) -> None:
    entry = {"map": {"profile.traits.email": "{{ event.properties.mail }}"}}
    async with open_lab({"event_types.json": {"event_types": {"x": entry}}}) as lab:
        await lab.track("x")
        await lab.track(EventInput("x", {"mail": "a@b.c"}))
        assert (await lab.one("profile"))["traits"] == {"email": "a@b.c"}


async def test_an_internal_event_is_mapped_too(open_lab: OpenLab) -> None:
    files = {
        "event_types.json": {
            "event_types": {"inner": {"tags": ["ours"], "map": {"profile.traits.inner": True}}}
        },
        "emits": chain("x", ("emit", {"given": ["inner"]})),
    }
    async with open_lab(files) as lab:
        await lab.track("x")
        assert (await lab.one("profile"))["traits"] == {"inner": True}
        assert [event.get("tags") for event in await lab.all("event") if event["type"] == "inner"] == [
            ["ours"]
        ]


async def test_a_mapping_that_cannot_be_written_is_no_fault(open_lab: OpenLab) -> None:
    entry = {"map": {"profile.traits.name": {"increment": 1}, "profile.traits.b": 1}}
    files = types(x=entry, named={"map": {"profile.traits.name": "Ann"}})
    async with open_lab(files) as lab:
        assert (await lab.track("named", EventInput("x", id="e1"))).errors == []
        event = next(doc for doc in await lab.all("event") if doc["id"] == "e1")
        assert event["errors"] == ["profile.traits.name: cannot increment a text at profile.traits.name"]
        assert (await lab.one("profile"))["traits"] == {"name": "Ann", "b": 1}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "items"]), inner, max_size=3)
    ),
    max_leaves=8,
)
PLACES = st.sampled_from(
    ["profile.traits.a", "profile.traits.a.b", "profile.traits.items", "profile.traits", "profile.interests.a",
     "profile.stats.counters.a", "profile.consents.a", "session.context.a", "session.properties.a.b"]
)  # fmt: skip
VALUES = st.sampled_from(
    ["{{ event.properties.a }}", "{{ event.properties.items }}", "{{ profile.traits }}", "text {{ now }}",
     "{{ profile.stats.counters.a + 1 }}", "{{ event.properties.b | length }}", "{{ profile.time.created }}", None,
     {"a": "{{ event.properties.b }}"}, 1]
)  # fmt: skip


@st.composite
def maps(draw: st.DrawFn) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for place in draw(st.lists(PLACES, unique=True, max_size=6)):
        way = draw(st.sampled_from(["set", "set_if_missing", "increment", "append"]))
        value = draw(VALUES)
        if way == "increment" and not isinstance(value, int | str):
            value = 2
        made[place] = {way: value}
    return made


@settings(max_examples=150, deadline=None)
@given(made=maps(), properties=st.dictionaries(st.sampled_from(["a", "b", "items"]), JSON), traits=JSON)
def test_no_mapping_is_a_fault_and_undo_leaves_nothing(made: Any, properties: Any, traits: Any) -> None:
    kind = kind_of(map=made)
    traits = traits if isinstance(traits, dict) else {"a": traits}
    passage = make_passage({"traits": traits}, event={"properties": properties, "errors": []})
    before = deepcopy((passage.draft.profile, passage.draft.session))
    try:
        map_fields(passage, kind)
    except HeadraceError:
        pytest.fail("a mapping that cannot be written is told, not raised")
    passage.draft.touch(passage.edits)
    changed = {edit.path.partition(".")[0] for edit in passage.edits}
    assert changed <= passage.draft.touched
    passage.undo()
    assert repr((passage.draft.profile, passage.draft.session)) == repr(before)


# What the workspace hands on


async def test_strategies_for_merging_are_handed_on_by_canonical_paths(open_lab: OpenLab) -> None:
    rules = {"profile.traits['age']": "largest", "profile.interests": "sum"}
    async with open_lab({"event_types.json": {"merge": rules, "event_types": {}}}) as lab:
        assert lab.engine.workspace.merge_rules == {
            "profile.traits.age": "largest",
            "profile.interests": "sum",
        }
    async with open_lab() as lab:
        assert lab.engine.workspace.merge_rules == {}


# Replays


async def test_a_reshaped_event_is_replayed_as_it_was_kept(open_lab: OpenLab) -> None:
    entry = {
        "schema": {"required": ["sum"]},
        "condition": "not profile.stats.counters.mapped",
        "reshape": {"total": "{{ event.properties.sum }}", "sum": None},
        "map": {"profile.stats.counters.mapped": {"increment": 1}},
    }
    files = {"event_types.json": {"event_types": {"x": entry}}, "w": chain("x", count())}
    async with open_lab(files) as lab:
        await lab.track(EventInput("x", {"sum": 3}, id="e1", version="2"))
        event = await lab.one("event")
        workspace, (workflow,) = lab.engine.workspace, lab.engine.workspace.workflows
        applied = await apply_workflow(lab.engine.parts, workspace, workflow, event)
        assert (applied.outcome, applied.why) == ("applied", "")
        # The workflow ran again, and nothing was mapped again.
        assert (await lab.counter(), await lab.counter("mapped")) == (2, 1)
        source = workspace.sources["shop"]
        job = past_job(source, event, workspace)
        assert (job.incoming[0].input.properties, job.incoming[0].input.version) == ({"total": 3}, "2")
        assert job.is_reshaped
