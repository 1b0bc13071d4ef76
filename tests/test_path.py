"""Paths: reading, writing, undoing, and what they refuse."""

import copy
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.engine.errors import PathError
from headrace.engine.language.values import same
from headrace.engine.model import new_profile, new_session
from headrace.engine.writing.edit import OPERATIONS, json_copy
from headrace.engine.writing.path import MISSING, Edit, compile_path, compile_write_path, path_text, undo


def documents() -> dict[str, Any]:
    profile = new_profile("p1", "main", "2026-03-01T12:00:00.000Z")
    profile["traits"] = {
        "name": "Ada",
        "age": 36,
        "wishes": ["a", 1],
        "address": {"city": "Ulm"},
        "nothing": None,
    }
    profile["segments"] = ["vip"]
    profile["stats"]["counters"] = {"orders": 3}
    session = new_session("s1", "main", "shop", "2026-03-01T12:00:00.000Z")
    return {"profile": profile, "session": session, "vars": {}, "event": {"properties": {"items": [1]}}}


READS = [
    ("profile.traits.name", "Ada"),
    ("profile.traits['name']", "Ada"),
    ('profile["traits"]["name"]', "Ada"),
    ("profile.traits.address.city", "Ulm"),
    ("profile.traits.address", {"city": "Ulm"}),
    ("profile.traits.nothing", None),
    ("profile.traits.nope", MISSING),
    ("profile.traits.name.length", MISSING),
    ("profile.traits.wishes.append", MISSING),
    ("event.properties.items", [1]),
    ("event.items", MISSING),
    ("nodes.ask", MISSING),
    ("vars", {}),
]


@pytest.mark.parametrize(("text", "expected"), READS)
def test_a_path_reads(text: str, expected: Any) -> None:
    value = compile_path(text).read(documents())
    assert value is MISSING if expected is MISSING else value == expected


BAD_PATHS = [
    ("", 1, "begins with a name"),
    (".a", 1, "begins with a name"),
    ("9a", 1, "begins with a name"),
    ("profil.traits", 1, "profile"),
    ("other.x", 1, "begin with one of"),
    ("profile.", 9, "key is expected"),
    ("profile..a", 9, "key is expected"),
    ("profile.traits.", 16, "key is expected"),
    ("profile.traits.my-key", 18, "['my-key']"),
    ("profile.traits.9a", 16, "['9a']"),
    ("profile.traits[0]", 15, "['my-key']"),
    ("profile.traits['a", 15, "in quotes"),
    ("profile.traits[a]", 15, "in quotes"),
    ("profile.traits['']", 15, "1 to 256"),
    ("profile.traits a", 15, "cannot stand"),
    ("profile.traits$", 15, "cannot stand"),
    ("profile" + ".a" * 70, 0, "more than 64"),
    ("profile." + "a" * 300, 9, "1 to 256"),
    ("a" * 3000, 2001, "longer"),
]


@pytest.mark.parametrize(("text", "column", "word"), BAD_PATHS)
def test_a_bad_path_says_where_and_what(text: str, column: int, word: str) -> None:
    with pytest.raises(PathError) as caught:
        compile_path(text)
    assert column in (0, caught.value.column)
    assert word in str(caught.value)


NOT_WRITABLE = [
    ("event.properties.a", "writable are"),
    ("source.id", "writable are"),
    ("nodes.a", "writable are"),
    ("profile.id", "writable are"),
    ("profile.interest.shoes", "profile.interests"),
    ("profile.trait.email", "profile.traits"),
    ("profile", "writable are"),
    ("profile.stats", "nothing can be written"),
    ("profile.stats.visits", "nothing can be written"),
    ("profile.stats.counters.a.b", "a number"),
    ("profile.interests.a.b", "a number"),
    ("profile.marks.a", "writable are"),
    ("profile.time.created", "writable are"),
    ("profile.segments.vip", "profile.segments itself"),
    ("profile.consents.a.b", "given"),
    ("profile.consents.a.given.b", "given"),
    ("session.id", "writable are"),
    ("session", "writable are"),
    ("vars", "vars.name"),
    ("profile.__class__", "writable are"),
]


@pytest.mark.parametrize(("text", "word"), NOT_WRITABLE)
def test_only_some_places_are_writable(text: str, word: str) -> None:
    with pytest.raises(PathError) as caught:
        compile_write_path(text)
    assert word in str(caught.value)


WRITES: list[tuple[str, str, Any, Any]] = [
    # path, operation, value, what stands there afterwards
    ("profile.traits.email", "set", "a@b.c", "a@b.c"),
    ("profile.traits['my-key']", "set", 1, 1),
    ("profile.traits.address.city", "set", "Bonn", "Bonn"),
    ("profile.traits.a.b.c", "set", [1], [1]),
    ("profile.traits.nothing.deep", "set", 1, 1),
    ("profile.traits", "set", {"x": 1}, {"x": 1}),
    ("profile.traits.when", "set", datetime(2026, 3, 1, tzinfo=UTC), "2026-03-01T00:00:00.000Z"),
    ("profile.traits.age", "set", True, True),
    ("profile.traits.name", "set", None, None),
    ("profile.traits.name", "unset", None, MISSING),
    ("profile.traits.address.city", "unset", None, MISSING),
    ("profile.traits", "unset", None, {}),
    ("profile.segments", "unset", None, []),
    ("profile.traits.age", "increment", 1, 37),
    ("profile.traits.age", "increment", 0.5, 36.5),
    ("profile.traits.age", "increment", -40, -4),
    ("profile.traits.nothing", "increment", 2, 2),
    ("profile.stats.counters.orders", "increment", 1, 4),
    ("profile.stats.counters.new", "increment", 1, 1),
    ("profile.interests.shoes", "increment", 2.5, 2.5),
    ("profile.interests", "set", {"a": 1}, {"a": 1}),
    ("profile.traits.wishes", "append", "a", ["a", 1, "a"]),
    ("profile.traits.new", "append", {"a": 1}, [{"a": 1}]),
    ("profile.traits.nothing", "append", 1, [1]),
    ("profile.traits.wishes", "add", "b", ["a", 1, "b"]),
    ("profile.traits.wishes", "add", True, ["a", 1, True]),
    ("profile.segments", "add", "gold", ["vip", "gold"]),
    ("profile.segments", "remove", "vip", []),
    ("profile.segments", "set", ["a"], ["a"]),
    ("profile.traits.wishes", "remove", 1, ["a"]),
    ("profile.consents.news", "set", {"given": True, "at": None}, {"given": True, "at": None}),
    ("profile.consents.news.given", "set", False, False),
    ("profile.consents.news.until", "set", datetime(2027, 1, 1, tzinfo=UTC), "2027-01-01T00:00:00.000Z"),
    ("session.context.page", "set", "/", "/"),
    ("session.properties.n", "increment", 1, 1),
    ("session.properties", "set", {}, {}),
    ("vars.x", "set", {"a": [1]}, {"a": [1]}),
    ("vars.x.y", "append", 1, [1]),
]


@pytest.mark.parametrize(("text", "op", "value", "expected"), WRITES)
def test_a_write_changes_one_place_and_is_undone(text: str, op: str, value: Any, expected: Any) -> None:
    docs = documents()
    original = copy.deepcopy(docs)
    path = compile_write_path(text)
    before = path.read(docs)
    edit = path.apply(docs, op, value)
    found = path.read(docs)
    assert found is MISSING if expected is MISSING else same(found, expected)
    if edit is None:
        assert docs == original
        return
    assert edit.path == text
    assert edit.after is MISSING if expected is MISSING else same(edit.after, expected)
    assert edit.before is before or same(edit.before, before)
    undo(edit)
    assert docs == original


UNCHANGED: list[tuple[str, str, Any]] = [
    ("profile.traits.name", "set", "Ada"),
    ("profile.traits.address", "set", {"city": "Ulm"}),
    ("profile.traits.nope", "unset", None),
    ("profile.traits.nope.deep", "unset", None),
    ("profile.interests", "unset", None),
    ("profile.traits.age", "increment", 0),
    ("profile.segments", "add", "vip"),
    ("profile.segments", "remove", "gold"),
    ("profile.traits.nope", "remove", 1),
    ("profile.traits.nothing", "remove", 1),
    ("profile.traits.nothing", "set", None),
]


@pytest.mark.parametrize(("text", "op", "value"), UNCHANGED)
def test_a_write_that_changes_nothing_says_so(text: str, op: str, value: Any) -> None:
    docs = documents()
    assert compile_write_path(text).apply(docs, op, value) is None
    assert docs == documents()


REFUSED: list[tuple[str, str, Any, str]] = [
    ("profile.traits.name", "increment", 1, "cannot increment a text at profile.traits.name"),
    ("profile.traits.wishes", "increment", 1, "cannot increment a list"),
    ("profile.traits.age", "increment", "1", "cannot increment by a text"),
    ("profile.traits.age", "increment", True, "cannot increment by true or false"),
    ("profile.traits.age", "increment", None, "cannot increment by null"),
    ("profile.traits.age", "increment", float("nan"), "not a number"),
    ("profile.traits.age", "increment", float("inf"), "not a number"),
    ("profile.traits.age", "increment", 2**63 - 1, "bits"),
    ("profile.traits.age", "append", 1, "cannot append to a number"),
    ("profile.traits.name", "add", 1, "cannot add to a text"),
    ("profile.traits.address", "remove", 1, "cannot remove from an object"),
    ("profile.traits.name.first", "set", 1, "profile.traits.name is not an object"),
    ("profile.traits.wishes.first", "set", 1, "not an object"),
    ("profile.traits.x", "set", 2**64, "bits"),
    ("profile.traits.x", "set", float("nan"), "not a number"),
    ("profile.traits.x", "set", {1: 2}, "not a text"),
    ("profile.traits.x", "set", {1, 2}, "not JSON"),
    ("profile.traits.x", "set", b"a", "not JSON"),
    ("profile.traits.x", "set", "\ud800", "surrogate"),
    ("profile.traits.x", "set", {"\ud800": 1}, "surrogate"),
    ("profile.traits.x", "set", "a" * 2_000_000, "1 MiB"),
    ("profile.traits.x", "set", [1] * 1_000_000, "1 MiB"),
    ("profile.traits", "set", [1], "only an object"),
    ("profile.traits", "increment", 1, "it takes set, unset"),
    ("profile.segments", "add", 5, "list of names"),
    ("profile.segments", "add", "", "list of names"),
    ("profile.segments", "set", "vip", "list of names"),
    ("profile.segments", "increment", 1, "it takes"),
    ("profile.interests.a", "set", "5", "only a number"),
    ("profile.interests.a", "set", True, "only a number"),
    ("profile.interests.a", "append", 5, "it takes"),
    ("profile.interests", "set", {"a": "b"}, "only a number"),
    ("profile.stats.counters.a", "set", None, "only a number"),
    ("profile.consents.a", "set", True, "only an object"),
    ("profile.consents.a", "set", {"given": "yes"}, "true or false"),
    ("profile.consents.a", "set", {"give": True}, "'give'"),
    ("profile.consents.a.at", "set", 5, "a text or null"),
    ("profile.consents", "set", {"a": 1}, "only an object"),
    ("profile.traits.a", "delete", 1, "cannot be written by delete"),
]


@pytest.mark.parametrize(("text", "op", "value", "word"), REFUSED)
def test_a_write_that_cannot_be_changes_nothing(text: str, op: str, value: Any, word: str) -> None:
    docs = documents()
    with pytest.raises(PathError) as caught:
        compile_write_path(text).apply(docs, op, value)
    assert word in str(caught.value)
    assert docs == documents()


def test_without_a_profile_nothing_can_be_written() -> None:
    with pytest.raises(PathError, match="there is no profile"):
        compile_write_path("profile.traits.a").apply({"profile": None}, "set", 1)


def test_depth_is_bounded() -> None:
    deep: Any = 1
    for _ in range(64):
        deep = [deep]
    assert json_copy(deep) == deep
    with pytest.raises(PathError, match="64 deep"):
        json_copy([deep])


def test_what_is_written_is_a_copy_and_an_edit_stays_true() -> None:
    docs = documents()
    value = {"items": [{"a": 1}]}
    first = compile_write_path("vars.x").apply(docs, "set", value)
    value["items"][0]["a"] = 99
    second = compile_write_path("vars.x.more").apply(docs, "set", 2)
    third = compile_write_path("vars.list").apply(docs, "append", 1)
    fourth = compile_write_path("vars.list").apply(docs, "append", 2)
    assert first is not None
    assert second is not None
    assert third is not None
    assert fourth is not None
    assert first.after == {"items": [{"a": 1}]}
    assert docs["vars"] == {"x": {"items": [{"a": 1}], "more": 2}, "list": [1, 2]}
    assert (third.after, fourth.before, fourth.after) == ([1], [1], [1, 2])


def test_a_list_is_bounded() -> None:
    docs = {"vars": {"list": [0] * 10_000}}
    with pytest.raises(PathError, match="10,000 items"):
        compile_write_path("vars.list").apply(docs, "append", 1)


def test_paths_are_compiled_once() -> None:
    assert compile_path("event.a.b") is compile_path("event.a.b")
    assert compile_write_path("vars.a") is compile_write_path("vars.a")


KEYS = st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=5).map(tuple)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
PLACES = st.sampled_from([text for text, _, _, _ in WRITES])
STEPS = st.tuples(PLACES, st.sampled_from(sorted(OPERATIONS)), JSON | st.just(1) | st.just("a") | st.just({}))


@given(keys=KEYS)
def test_a_path_is_written_as_it_is_read(keys: tuple[str, ...]) -> None:
    path = compile_path(path_text("event", keys))
    assert (path.root, path.keys) == ("event", keys)


@given(keys=KEYS, value=JSON)
def test_what_is_set_is_read_back_and_undone(keys: tuple[str, ...], value: Any) -> None:
    docs: dict[str, Any] = {"vars": {}}
    path = compile_write_path(path_text("vars", keys))
    edit = path.apply(docs, "set", value)
    assert edit is not None
    assert same(path.read(docs), value)
    undo(edit)
    assert docs == {"vars": {}}


@given(steps=st.lists(STEPS, max_size=12))
def test_any_writes_are_undone_and_their_edits_stay_true(steps: list[tuple[str, str, Any]]) -> None:
    docs = documents()
    kept: list[tuple[Edit, str]] = []
    for text, op, value in steps:
        state = json.dumps(docs)
        try:
            edit = compile_write_path(text).apply(docs, op, value)
        except PathError:
            edit = None
        if edit is None:
            assert json.dumps(docs) == state
        else:
            kept.append((edit, shown(edit)))
    for edit, as_it_was in reversed(kept):
        assert shown(edit) == as_it_was
        undo(edit)
    assert json.dumps(docs, sort_keys=True) == json.dumps(documents(), sort_keys=True)


def shown(edit: Edit) -> str:
    return json.dumps([None if value is MISSING else [value] for value in (edit.before, edit.after)])


@given(text=st.text("profiletas.vars[]'\"\\ -09é_", max_size=40))
def test_any_text_is_a_path_or_says_where_it_is_not(text: str) -> None:
    try:
        path = compile_path(text)
    except PathError as error:
        assert 1 <= error.column <= len(text) + 1  # noqa: PT017 - most texts are no paths
        return
    assert path.text == text
