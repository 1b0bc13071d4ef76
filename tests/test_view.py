"""Views: what plugins read, and cannot change."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.engine.view import View, plain, shown, viewed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def test_keys_read_as_attributes() -> None:
    view = View({"traits": {"name": "Ann", "list": [{"x": 1}]}, "items": 5})
    assert view.traits.name == "Ann"
    assert view["traits"]["name"] == "Ann"
    assert view.traits.list[0].x == 1
    assert view["items"] == 5
    assert list(view) == ["traits", "items"]
    assert len(view) == 2
    assert "traits" in view
    assert view.get("gone", 3) == 3


def test_what_is_not_there_is_empty_and_false() -> None:
    for view in (View(None), View({}), View({"a": 1}).b.c.d):
        assert not view
        assert view == {}
        assert view.stats.counters.get("orders", 0) == 0
    with pytest.raises(KeyError):
        View({})["a"]


def test_names_of_python_are_no_keys() -> None:
    view = View({"__class__": 1, "__deepcopy__": 2})
    assert view.__class__ is View
    with pytest.raises(AttributeError):
        _ = view.__deepcopy__
    assert view["__deepcopy__"] == 2


def test_nothing_can_be_changed() -> None:
    doc: dict[str, Any] = {"a": {"b": [1, {"c": 2}]}}
    view: Any = View(doc)
    with pytest.raises(TypeError):
        view["a"] = 1
    with pytest.raises((AttributeError, TypeError)):
        view.x = 1
    with pytest.raises((AttributeError, TypeError)):
        view.a.b.append(1)
    with pytest.raises(TypeError):
        del view["a"]
    assert doc == {"a": {"b": [1, {"c": 2}]}}


def test_a_view_shows_the_document_as_it_is_now() -> None:
    doc: dict[str, Any] = {"a": 1}
    view = View(doc)
    doc["a"] = 2
    assert view.a == 2


@given(value=JSON)
def test_plain_is_the_value_behind_as_a_copy(value: Any) -> None:
    assert plain(viewed(value)) == value
    assert plain(value) == value
    assert repr(plain(viewed(value))) == repr(value)


def test_plain_shares_nothing() -> None:
    doc = {"a": {"b": [1]}}
    copy = plain(View(doc))
    copy["a"]["b"].append(2)
    assert doc == {"a": {"b": [1]}}


@given(value=JSON)
def test_json_is_shown_as_it_is(value: Any) -> None:
    assert shown(viewed(value)) == value


def test_whatever_is_no_json_is_shown_as_text() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    odd = shown(
        {1: {2}, "b": b"x", "n": [float("inf"), float("nan")], "t": now, "o": "x" * 10, "big": object}
    )
    assert odd == {
        "1": "{2}",
        "b": "b'x'",
        "n": ["inf", "nan"],
        "t": now,
        "o": "x" * 10,
        "big": "<class 'object'>",
    }
    json.dumps(odd, default=str, allow_nan=False)
    assert len(shown({"x": set(range(1000))})["x"]) == 200
