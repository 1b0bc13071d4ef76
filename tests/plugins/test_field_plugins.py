"""The plugins that write fields: odd names, numbers and lists."""

from typing import Any

import pytest

from headrace.engine.plugin import Example
from headrace.engine.testing.example import run_example


@pytest.mark.parametrize(
    "name", ["a.b", "it's", 'say "x"', "back\\slash", "__proto__", "ä]['", "{{ x }}", "items"]
)
async def test_interests_may_have_any_printable_name(name: str) -> None:
    example = Example(
        {"interest": "{{ event.properties.i }}"},
        "done",
        event={"properties": {"i": name}},
        changes={"profile.interests": {name: 1}},
    )
    assert (await run_example("add_interest", example)).differences(example) == []


@pytest.mark.parametrize("name", ["x" * 101, "a\nb", "a\x00b", 7, True])
async def test_other_interests_fail(name: Any) -> None:
    ran = await run_example(
        "add_interest",
        Example({"interest": "{{ event.properties.i }}"}, "", event={"properties": {"i": name}}),
    )
    assert ran.port == "error"


async def test_a_profile_has_at_most_a_thousand_interests() -> None:
    profile = {"interests": {f"i{number}": 1 for number in range(1000)}}
    assert (
        await run_example("add_interest", Example({"interest": "new"}, "", profile=profile))
    ).port == "error"
    assert (
        await run_example("add_interest", Example({"interest": "i7"}, "", profile=profile))
    ).port == "done"


@pytest.mark.parametrize(
    ("formula", "port"),
    [
        ("1 + 1", "done"),
        ("event.properties.a / 0", "error"),
        ("event.properties.missing * 2", "error"),
        ("2 * 10000000000 * 10000000000", "error"),
        ("event.properties.big * 10", "error"),
        ("true", "error"),
        ("'7'", "error"),
        ("number('7')", "done"),
        ("[1]", "error"),
    ],
)
async def test_calculate_writes_numbers_only(formula: str, port: str) -> None:
    example = Example({"fields": {"vars.x": formula}}, port, event={"properties": {"a": 1, "big": 1e308}})
    ran = await run_example("calculate", example)
    assert ran.port == port


async def test_calculate_writes_all_or_nothing() -> None:
    example = Example({"fields": {"vars.x": "1", "vars.y": "none"}}, "error", changes={"vars": {}})
    assert (await run_example("calculate", example)).differences(example) == []


@pytest.mark.parametrize("by", ["2", None, True, [], {}, "nan"])
async def test_increment_by_something_else_fails(by: Any) -> None:
    example = Example(
        {"field": "vars.n", "by": "{{ event.properties.n }}"},
        "error",
        event={"properties": {"n": by}},
        changes={"vars": {}},
    )
    assert (await run_example("increment", example)).differences(example) == []


async def test_increment_keeps_whole_numbers_whole() -> None:
    ran = await run_example("increment", Example({"field": "vars.n", "by": 2}, "", changes={"vars.n": 2}))
    assert type(ran.changes["vars.n"]) is int


async def test_set_fields_keeps_types() -> None:
    value = {"n": 1, "b": True, "l": [1, {"x": None}], "f": 1.5}
    example = Example(
        {"fields": {"vars.a": "{{ event.properties.v }}", "vars.b": {"in": ["{{ event.properties.v.n }}"]}}},
        "done",
        event={"properties": {"v": value}},
        changes={"vars.a": value, "vars.b": {"in": [1]}},
    )
    assert (await run_example("set_fields", example)).differences(example) == []


@pytest.mark.parametrize("path", ["event.type", "profile.id", "profile", "nodes.x", "session.id", "x.y", ""])
async def test_set_fields_refuses_other_paths(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        await run_example("set_fields", Example({"fields": {path: 1}}, ""))


@pytest.mark.parametrize("value", [[1], {"a": 1}, None, "it"])
async def test_map_value_of_odd_values_is_unmapped(value: Any) -> None:
    example = Example(
        {"value": "{{ event.properties.v }}", "table": {"a": 1}},
        "unmapped",
        event={"properties": {"v": value}},
        result={"value": None},
    )
    assert (await run_example("map_value", example)).differences(example) == []


async def test_map_value_of_true() -> None:
    example = Example({"value": True, "table": {"true": "yes"}}, "mapped", result={"value": "yes"})
    assert (await run_example("map_value", example)).differences(example) == []


async def test_session_fields_need_a_session() -> None:
    example = Example({"fields": {"session.properties.a": 1}}, "error", session=None)
    assert (await run_example("set_fields", example)).port == "error"


@pytest.mark.parametrize(
    ("before", "config", "after"),
    [
        (..., {"keep_last": 2}, ["c"]),
        ([], {"keep_last": 2}, ["c"]),
        (["a"], {"keep_last": 2}, ["a", "c"]),
        (["a", "b"], {"keep_last": 2}, ["b", "c"]),
        (["a", "b"], {"keep_last": 1}, ["c"]),
        ([{"n": n} for n in range(9_999)], {"keep_last": 3}, [{"n": 9_997}, {"n": 9_998}, "c"]),
        (["c", "b"], {"keep_last": 2}, ["b", "c"]),
        (["c", "b"], {"keep_last": 2, "once": True}, ["c", "b"]),
        (["c", "b", "a"], {"keep_last": 2, "once": True}, ["b", "a"]),
        (["a", "b"], {"keep_last": 2, "once": True}, ["b", "c"]),
        (["a"], {"keep_last": 2, "once": True}, ["a", "c"]),
        ([1, 2], {"keep_last": 2, "once": True, "value": True}, [2, True]),
        ([1, 2], {"keep_last": 2, "once": True, "value": 1.0}, [1, 2]),
    ],
)
async def test_a_list_keeps_its_newest_values(before: Any, config: dict[str, Any], after: list[Any]) -> None:
    example = Example(
        {"field": "profile.traits.seen", "value": "c", **config},
        "done",
        profile={"traits": {} if before is ... else {"seen": before}},
        changes={"profile.traits.seen": after},
    )
    assert (await run_example("append_value", example)).differences(example) == []


async def test_what_is_no_list_keeps_nothing() -> None:
    example = Example(
        {"field": "profile.traits.seen", "value": "c", "keep_last": 1},
        "error",
        profile={"traits": {"seen": "text"}},
        changes={"profile.traits.seen": "text"},
    )
    assert (await run_example("append_value", example)).differences(example) == []
