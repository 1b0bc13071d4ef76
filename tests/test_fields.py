"""Field types of configs: what may stand there, what it gives, what is said when it is wrong."""

from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError

from headrace.engine.config.fields import Names
from headrace.engine.errors import NodeError
from headrace.engine.language.scope import Scope
from headrace.engine.plugin import (
    Body,
    ClockTime,
    Config,
    EventName,
    Expression,
    Header,
    MarkName,
    Named,
    ReadPath,
    Secret,
    SegmentName,
    SourceName,
    Step,
    Text,
    Url,
    Value,
    WritePath,
)
from tests.makers import make_passage


class Everything(Config):
    """A config with a field of every type."""

    text: Text | None = None
    url: Url | None = None
    header: Header | None = None
    body: Body | None = None
    when: Expression | None = None
    reads: ReadPath | None = None
    writes: WritePath | None = None
    secret: Secret | None = None
    number: Value[int] | None = None
    either: Value[int | float] | None = None
    flag: Value[bool] | None = None
    word: Value[str | None] | None = None
    some: Value[list[str]] | None = None
    bounded: Value[Annotated[int, Field(ge=1)]] | None = None
    segment: SegmentName | None = None
    event: EventName | None = None
    source: SourceName | None = None


EVENT = {
    "properties": {"n": 3, "x": 2.5, "t": "a b/ü", "b": True, "list": ["x"], "o": {"k": [1]}, "none": None}
}


def scope() -> Scope:
    found: Scope = make_passage({"traits": {"name": "Ann"}}, event=EVENT).scope
    return found


def given(**members: Any) -> Everything:
    return Everything.model_validate(members)


VALUES: list[tuple[str, Any, Any]] = [
    ("text", "plain", "plain"),
    ("text", "Hello {{ profile.traits.name }}!", "Hello Ann!"),
    ("text", "{{ event.properties.n }}", "3"),
    ("text", "{{ event.properties.gone }}", ""),
    ("url", "https://x.example/{{ event.properties.t }}?q=1", "https://x.example/a%20b%2F%C3%BC?q=1"),
    ("header", "to {{ profile.traits.name }}", "to Ann"),
    ("body", {"a": ["{{ event.properties.o }}", 1, None]}, {"a": [{"k": [1]}, 1, None]}),
    ("body", {"b": "x{{ event.properties.n }}"}, {"b": "x3"}),
    ("body", "{{ event.properties.gone }}", None),
    ("body", 5, 5),
    ("when", "event.properties.n + 1", 4),
    ("when", "event.properties.gone", None),
    ("reads", "event.properties.o.k", [1]),
    ("reads", "event.properties.o.gone.deep", None),
    ("reads", "profile.traits['name']", "Ann"),
    ("number", 7, 7),
    ("number", "{{ event.properties.n }}", 3),
    ("either", 2.5, 2.5),
    ("either", "{{ event.properties.x }}", 2.5),
    ("either", "{{ event.properties.n }}", 3),
    ("flag", "{{ event.properties.n > 2 }}", True),
    ("flag", False, False),
    ("word", "{{ event.properties.none }}", None),
    ("word", "plain", "plain"),
    ("some", ["a", "b"], ["a", "b"]),
    ("some", "{{ event.properties.list }}", ["x"]),
    ("bounded", "{{ event.properties.n }}", 3),
]  # fmt: skip


@pytest.mark.parametrize(("name", "source", "expected"), VALUES)
def test_values(name: str, source: Any, expected: Any) -> None:
    field = getattr(given(**{name: source}), name)
    found = field.evaluate(scope())
    assert found == expected
    assert type(found) is type(expected)
    # It is written back as it stands in the file, and equal if the text is.
    assert field.source == source
    assert given(**{name: source}).model_dump()[name] == source
    assert field == getattr(given(**{name: source}), name)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("number", "{{ event.properties.x }}"),
        ("number", "{{ event.properties.t }}"),
        ("number", "{{ event.properties.b }}"),
        ("number", "{{ event.properties.gone }}"),
        ("either", "{{ event.properties.b }}"),
        ("flag", "{{ event.properties.n }}"),
        ("word", "{{ event.properties.n }}"),
        ("some", "{{ event.properties.t }}"),
        ("bounded", "{{ event.properties.n - 3 }}"),
    ],
)
def test_a_template_that_gives_another_type_fails_the_node(name: str, source: str) -> None:
    with pytest.raises(NodeError) as caught:
        getattr(given(**{name: source}), name).evaluate(scope())
    assert str(caught.value).startswith(source)


@pytest.mark.parametrize(
    ("name", "source", "word"),
    [
        ("text", 5, "text"),
        ("text", "{{ profile.", "column"),
        ("text", "a\n{{ nope }}", "line 2"),
        ("text", "{{ x | no_such }}", "no_such"),
        ("url", "{{ profile.traits.url }}", ""),
        ("when", "event.properties.n >", "column"),
        ("when", "evnt.properties.n", "evnt"),
        ("when", 5, "text"),
        ("reads", "events.x", "did you mean"),
        ("reads", "", "begins with a name"),
        ("writes", "event.properties.x", "nothing can be written"),
        ("writes", "profile.id", "nothing can be written"),
        ("writes", "profile.trait.x", "did you mean"),
        ("body", {"a": ["{{ nope( }}"]}, "column"),
        ("secret", "CRM", "object"),
        ("secret", {"secret": 5}, "object"),
        ("secret", {"secret": "X", "more": 1}, "object"),
        ("number", "7", "integer"),
        ("number", 7.5, "integer"),
        ("number", True, "integer"),
        ("either", "7", "number"),
        ("flag", "yes", "boolean"),
        ("flag", 1, "boolean"),
        ("bounded", 0, "greater than or equal to 1"),
        ("either", float("nan"), "finite"),
        ("no_such_member", 1, "not permitted"),
    ],
)
def test_what_cannot_be_is_refused_at_load(name: str, source: Any, word: str) -> None:
    with pytest.raises(ValidationError) as caught:
        given(**{name: source})
    (*_, error) = caught.value.errors(include_url=False)
    assert error["loc"][0] == name
    assert word.lower() in str(caught.value).lower()


def test_names_must_be_declared_where_it_is_known_what_is() -> None:
    names = Names(frozenset({"vip"}), frozenset({"order"}), frozenset({"shop"}))
    good = {"segment": "vip", "event": "order", "source": "shop"}
    assert Everything.model_validate(good, context=names).segment == "vip"
    assert given(segment="anything").segment == "anything"
    assert Everything.model_validate({"segment": "x"}, context=Names()).segment == "x"
    for member, value, near in (
        ("segment", "vpi", "vip"),
        ("event", "ordr", "order"),
        ("source", "shp", "shop"),
    ):
        with pytest.raises(ValidationError) as caught:
            Everything.model_validate({member: value}, context=names)
        (error,) = caught.value.errors(include_url=False)
        assert near in str(error.get("ctx"))


def test_a_secret_is_read_by_the_step_only_and_never_shown() -> None:
    config = given(secret={"secret": "TOKEN"})
    assert config.secret is not None
    step = Step(make_passage(), "one")
    assert step.value(config.secret) == "hush"
    assert "hush" not in repr(config)
    with pytest.raises(NodeError, match=r"step\.value"):
        config.secret.evaluate(scope())
    missing = given(secret={"secret": "GONE"}).secret
    assert missing is not None
    with pytest.raises(NodeError, match="GONE_FILE"):
        step.value(missing)


def test_what_a_field_reads_is_known() -> None:
    reads = {
        "text": "{{ profile.traits.name }}",
        "when": "event.properties.n > 1",
        "body": {"x": ["{{ session.context.y }}"]},
        "reads": "nodes.a.b",
        "number": "{{ vars.n }}",
    }
    config = given(**reads)
    found = {name: set(getattr(config, name).reads()) for name in reads}
    assert found == {
        "text": {("profile", "traits", "name")},
        "when": {("event", "properties", "n")},
        "body": {("session", "context", "y")},
        "reads": {("nodes", "a", "b")},
        "number": {("vars", "n")},
    }


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: x", "a\0b"])
def test_a_value_cannot_break_out_of_a_header(value: str) -> None:
    field = given(header="to {{ event.properties.v }}").header
    assert field is not None
    with pytest.raises(NodeError):
        field.evaluate(make_passage(event={"properties": {"v": value}}).scope)


def test_a_value_of_an_event_is_never_evaluated() -> None:
    evil = "{{ 7 * 7 }}"
    found = make_passage(event={"properties": {"v": evil}}).scope
    for name in ("text", "word", "body"):
        assert getattr(given(**{name: "{{ event.properties.v }}"}), name).evaluate(found) == evil


class Marked(Config):
    """A config with names of two forms."""

    name: MarkName = "m"
    at: ClockTime = "09:00"
    code: Annotated[str, Named("[A-Z]{3}", "be three capitals, such as EUR")] = "EUR"


@pytest.mark.parametrize(
    ("member", "value", "message", "fix"),
    [
        ("name", "two words", "must have letters, digits, _ and - only, at most 64 of them", ""),
        ("name", "{{ event.type }}", "must have letters", "write the name itself: nothing is filled in here"),
        ("name", "m\n", "must have letters", ""),
        ("at", "9:00", "must be a time of the day, from 00:00 to 24:00", ""),
        ("code", "euro", "must be three capitals, such as EUR", ""),
    ],
)
def test_a_name_of_the_wrong_form_is_told_the_rule(member: str, value: str, message: str, fix: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Marked.model_validate({member: value})
    (error,) = raised.value.errors()
    assert error["msg"].startswith(message)
    assert error["ctx"]["fix"] == fix


def test_the_form_of_a_name_is_in_the_schema() -> None:
    assert Marked().code == "EUR"
    patterns = {name: one["pattern"] for name, one in Marked.model_json_schema()["properties"].items()}
    assert patterns["name"] == "^[A-Za-z0-9_-]{1,64}$"
    assert patterns["code"] == "^[A-Z]{3}$"
