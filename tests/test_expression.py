"""The expression and template languages: every rule, every limit, every error."""

import contextlib
import copy
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.engine.errors import ExpressionError, NodeError
from headrace.engine.language.expression import (
    Scope,
    compile_expression,
    compile_header_template,
    compile_template,
    compile_url_template,
)
from headrace.engine.language.library import FILTERS, FUNCTIONS, OTHER_NAMES
from headrace.engine.language.values import TESTS
from tests.expression_cases import BAD_EXPRESSIONS, BAD_TEMPLATES, DOCS, NOW, TEMPLATES, VALUES
from tests.pace import least


def scope_of(docs: dict[str, Any] = DOCS) -> Scope:
    scope = Scope(docs["event"], docs["profile"], docs["session"], docs["source"], NOW)
    scope.set("nodes", docs["nodes"])
    scope.set("vars", docs["vars"])
    return scope


def hostile_scope(**properties: Any) -> Scope:
    return scope_of({**DOCS, "event": {**DOCS["event"], "properties": properties}})


def same_kind(left: Any, right: Any) -> bool:
    return type(left) is type(right) and left == right


@pytest.mark.parametrize(("text", "expected"), VALUES)
def test_an_expression_gives_its_value(text: str, expected: Any) -> None:
    scope = scope_of()
    expression = compile_expression(text)
    value = expression.evaluate(scope)
    assert same_kind(value, expected)
    assert expression.test(scope) is bool(expected)
    assert expression.text == text


@pytest.mark.parametrize(("text", "expected"), TEMPLATES)
def test_a_template_gives_its_value(text: str, expected: Any) -> None:
    before = copy.deepcopy(DOCS)
    scope = scope_of()
    template = compile_template(text)
    assert same_kind(template.render(scope), expected)
    assert isinstance(template.render_text(scope), str)
    assert before == DOCS


@pytest.mark.parametrize(("text", "column", "word"), BAD_EXPRESSIONS)
def test_a_bad_expression_says_where_and_what(text: str, column: int, word: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text)
    assert column in (0, caught.value.column), caught.value
    assert word in f"{caught.value.message} {caught.value.fix}"


@pytest.mark.parametrize(("text", "line", "column", "word"), BAD_TEMPLATES)
def test_a_bad_template_says_where_and_what(text: str, line: int, column: int, word: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_template(text)
    assert caught.value.line == line
    assert column in (0, caught.value.column), caught.value
    assert word in f"{caught.value.message} {caught.value.fix}"


def test_the_table_is_large_enough() -> None:
    assert len(VALUES) + len(TEMPLATES) + len(BAD_EXPRESSIONS) + len(BAD_TEMPLATES) >= 300


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=lambda function: function.name)
def test_the_example_of_each_function_is_true(function: Any) -> None:
    assert function.summary
    assert function.signature.startswith(f"{function.name}(")
    value = compile_template("{{ " + function.example + " }}").render(scope_of())
    assert same_kind(value, json.loads(function.result))


def test_filters_are_functions_and_other_names_lead_to_some() -> None:
    assert set(FILTERS) <= set(FUNCTIONS)
    assert set(OTHER_NAMES.values()) <= set(FUNCTIONS)
    assert not set(OTHER_NAMES) & set(FUNCTIONS)
    assert all(summary for summary, _ in TESTS.values())


def test_a_line_and_a_column_are_exact_in_many_lines() -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression("event.type == 'a' and\n    profil.id == 'b'")
    assert (caught.value.line, caught.value.column) == (2, 5)
    assert "profile" in caught.value.fix


def test_what_is_read_is_known() -> None:
    expression = compile_expression(
        "profile.traits.email and event.properties['my-key'][0].x and 'a' in profile.segments and now"
    )
    assert expression.reads == {
        ("profile", "traits", "email"),
        ("event", "properties", "my-key"),
        ("profile", "segments"),
        ("now",),
    }
    assert expression.places["profile", "segments"] == (1, 69)
    query = compile_template("{{ jsonpath('$.event.properties.items[*].sku') }}{{ event }}")
    assert query.reads == {("event", "properties", "items"), ("event",)}


def test_a_template_knows_what_it_is() -> None:
    literal = compile_template("just text { } %")
    assert (literal.is_literal, literal.is_lone) == (True, False)
    lone = compile_template("{{ event.type }}")
    assert (lone.is_literal, lone.is_lone) == (False, True)
    mixed = compile_template("{{ event.type }} ")
    assert (mixed.is_literal, mixed.is_lone) == (False, False)
    comment = compile_template("{# only a comment #}")
    assert (comment.is_literal, comment.render(scope_of())) == (False, "")


def test_names_beyond_those_in_scope_are_given_where_an_expression_stands() -> None:
    scope = scope_of()
    scope.set("value", {"a": 3})
    assert compile_expression("value.a > 2", extra_names=("value",)).test(scope)
    assert compile_template("{{ value.a }}", extra_names={"value"}).render(scope) == 3
    with pytest.raises(ExpressionError):
        compile_expression("value.a > 2")


def test_what_a_template_sets_is_gone_after_it() -> None:
    scope = scope_of()
    template = compile_template("{% set mine = 5 %}{{ mine }}")
    assert [template.render(scope), template.render(scope)] == ["5", "5"]
    with pytest.raises(ExpressionError):
        compile_template("{{ mine }}")
    assert not scope.extra


def test_a_scope_is_reused_and_its_names_are_set_again() -> None:
    scope = scope_of()
    expression = compile_expression("vars.n + profile.stats.counters.orders")
    assert expression.evaluate(scope) is None
    scope.set("vars", {"n": 1})
    assert expression.evaluate(scope) == 5
    scope.set("profile", None)
    assert expression.evaluate(scope) is None
    assert scope.docs["profile"] is None


# Values within URLs and headers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a.example", "https://a.example"),
        ("https://a.example/x?y=1", "https://a.example/x?y=1"),
        ("https://a.example/{{ vars.v }}", "https://a.example/a%20b%2F..%2F%3Fc%3D1%26d%23%40%3A%C3%A9"),
        (
            "https://a.example:8443/?q={{ vars.v }}",
            "https://a.example:8443/?q=a%20b%2F..%2F%3Fc%3D1%26d%23%40%3A%C3%A9",
        ),
        ("https://a.example/x{% if vars.v %}/y{% endif %}", "https://a.example/x/y"),
        ("https://a.example/{{ event.nope }}", "https://a.example/"),
        ("https://a.example/{{ profile.segments }}", "https://a.example/%5B%22vip%22%5D"),
        ("https://a.example/{{ vars.dots }}", "https://a.example/%252e%252e"),
        ("https://a.example/?x={{ vars.dot }}/{{ vars.dot }}", "https://a.example/?x=../.."),
    ],
)
def test_values_in_a_url_are_encoded(text: str, expected: str) -> None:
    scope = scope_of()
    scope.set("vars", {"v": "a b/../?c=1&d#@:é", "dots": "%2e%2e", "dot": ".."})
    assert compile_url_template(text).render(scope) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{{ vars.url }}",
        "https://{{ vars.host }}/",
        "https://a{{ vars.host }}/",
        "https://a.example{{ vars.host }}",
        "https://a.example:{{ vars.port }}/",
        "{{ vars.scheme }}://a.example/",
        "https://{% if vars.a %}a{% endif %}.example/",
        "https://user:word@a.example/",
        "https://user@{{ vars.x }}/",
        "ftp://a.example/",
        "//a.example/",
        "/path",
        "",
        "https:///path",
        "https://a.example/a b",
        "https://a.example/\\b",
        "https://a.example/x\n",
        "https://a.example/../b",
        "https://a.example/%2e%2E/b",
        "https://a.example/./b",
    ],
)
def test_a_url_writes_out_where_it_goes(text: str) -> None:
    with pytest.raises(ExpressionError):
        compile_url_template(text)


@pytest.mark.parametrize("value", [".", "..", "a\nb", "a\0", "\x7f", "\ud800"])
def test_a_value_that_would_break_a_url_fails(value: str) -> None:
    scope = scope_of()
    scope.set("vars", {"v": value})
    with pytest.raises(NodeError):
        compile_url_template("https://a.example/x/{{ vars.v }}/y").render(scope)


def test_a_segment_of_dots_made_of_parts_fails() -> None:
    scope = scope_of()
    scope.set("vars", {"v": "."})
    with pytest.raises(NodeError):
        compile_url_template("https://a.example/{{ vars.v }}{{ vars.v }}").render(scope)


@pytest.mark.parametrize("value", ["a\rb", "a\nb", "a\0b", "a\r\nX-Other: 1"])
def test_a_value_that_would_break_a_header_fails(value: str) -> None:
    scope = scope_of()
    scope.set("vars", {"v": value})
    template = compile_header_template("Hello {{ vars.v }}")
    with pytest.raises(NodeError):
        template.render(scope)
    scope.set("vars", {"v": 5})
    assert template.render(scope) == "Hello 5"
    assert compile_header_template("{{ vars.v }}").render(scope) == "5"
    with pytest.raises(ExpressionError):
        compile_header_template(f"Hello {value}")


# What is bounded in time and memory

MIB = "x" * 1_000_000
LIST = ["y" * 10] * 9_000
ZEROS = [0] * 500
ENDS = [[*ZEROS, number] for number in range(960)]
ALIKE = {"l": [0] * 200, "a": [0] * 250_000, "b": [0] * 250_000}
SHARED = "{% set a0 = [1, 1] %}{% set b0 = [1, 1] %}" + "".join(
    f"{{% set a{n + 1} = [a{n}, a{n}] %}}{{% set b{n + 1} = [b{n}, b{n}] %}}" for n in range(21)
)
HOSTILE: list[tuple[str, dict[str, Any]]] = [
    ("{{ p.a | where('x', 'in', p.b) }}", {"a": [{"x": each} for each in ENDS[:480]], "b": ENDS[480:]}),
    ("{{ p.a | where('x', 'not in', p.b) }}", {"a": [{"x": each} for each in ENDS[:480]], "b": ENDS[480:]}),
    ("{% for a in p.a %}{{ a in p.b }}{% endfor %}", {"a": ENDS[:480], "b": ENDS[480:]}),
    ("{% for a in p.a %}{{ a is in p.b }}{% endfor %}", {"a": ENDS[:480], "b": ENDS[480:]}),
    ("{% for a in p.a %}{{ one_of(a, p.b, p.a, p.b[0]) }}{% endfor %}", {"a": ENDS[:480], "b": ENDS[480:]}),
    ("{% for a in p.l %}{{ p.a == p.b }}{% endfor %}", ALIKE),
    ("{% for a in p.l %}{{ p.a != p.b }}{% endfor %}", ALIKE),
    ("{% for a in p.l %}{{ 'q' if {'a': p.a} == {'a': p.b} }}{% endfor %}", ALIKE),
    (SHARED + "{{ a21 == b21 }}", {}),
    (SHARED + "{{ a21 in [b21] }}", {}),
    (SHARED.replace("= [", "= {'x': ").replace(", ", ", 'y': ").replace("]", "}") + "{{ a21 != b21 }}", {}),
    (SHARED + "{{ unique([a17, b17, a17, b17]) | length }}", {}),
    ("{% for a in range(1000) %}{{ unique(p.m) | length }}{% endfor %}", {"m": [[0] * 20_000] * 10}),
    ("{% for a in range(50) %}{{ map(p.m, p.k) | length }}{% endfor %}", {"m": [{}] * 9_999, "k": "a." * 60}),
    ("{{ map(p.m, p.k) }}", {"m": [{}] * 9_999, "k": "a." * 400_000}),
    ("{{ sum(p.m, p.k) }}", {"m": [{}] * 9_999, "k": "a." * 400_000}),
    (
        "{% for a in range(99) %}{{ p.m | sort('a.b') | length }}{% endfor %}",
        {"m": [{"a": {"b": 1}}] * 9_999},
    ),
    (
        "{% for a in range(1000) %}{{ contains(p.m, p.n) }}{% endfor %}",
        {"m": [[0] * 100_000, [0] * 99_999 + [1]], "n": [0] * 99_999 + [2]},
    ),
    ("{% for a in range(1000) %}{{ p.n in p.t }}{% endfor %}", {"t": MIB, "n": "x" * 49 + "y" + "x" * 49}),
    ("{% for a in p.l %}{% for b in p.l %}x{% endfor %}{% endfor %}", {"l": LIST}),
    ("{% for a in range(1001) %}x{% endfor %}", {}),
    ("{% for a in range(40) %}{% for b in range(40) %}x{% endfor %}{% endfor %}", {}),
    ("{% for a in range(1000) %}{{ p.t }}{% endfor %}", {"t": MIB}),
    ("{% for a in range(1000) %}" + "z" * 60_000 + "{% endfor %}", {}),
    ("{% for a in range(1000) %}{% set x = p.t ~ p.t %}{% endfor %}", {"t": MIB}),
    ("{% for a in range(1000) %}{{ 'q' in p.l }}{% endfor %}", {"l": LIST}),
    ("{% for a in range(1000) %}{{ sum(p.l) }}{% endfor %}", {"l": [1] * 9_000}),
    ("{% for a in range(1000) %}{{ matches(p.t, 'z$') }}{% endfor %}", {"t": MIB}),
    ("{{ p.t ~ p.t }}", {"t": MIB}),
    ("{{ p.t }}{{ p.t }}", {"t": MIB}),
    ("{{ p.t + p.t }}", {"t": MIB}),
    ("{{ replace(p.t, 'x', p.t) }}", {"t": MIB}),
    ("{{ join(p.l, p.t) }}", {"l": LIST, "t": MIB}),
    ("{{ split(p.t, 'x') }}", {"t": MIB}),
    ("{{ extract_all(p.t, 'x') }}", {"t": MIB}),
    ("{{ matches(p.t, 'y') }}", {"t": "x" * 65_537}),
    ("{{ matches(p.t, 'y') }}", {"t": "é" * 32_769}),
    ("{{ extract_all(p.t, '') }}", {"t": "x" * 10_000}),
    ("{{ extract_all(p.t, 'x(.*y)?') }}", {"t": "x" * 65_000}),
    ("{{ extract_all(p.t, 'order( .* shipped)?') }}", {"t": "order " * 10_000}),
    ("{{ replace_pattern(p.t, 'order( .* shipped)?', '') }}", {"t": "order " * 10_000}),
    ("{{ replace_pattern(p.t, 'é( .* è)?', '') }}", {"t": "é " * 20_000}),
    ("{{ matches(p.t, '(?i)\\\\b(\\\\w+\\\\s*){1,200}z$') }}", {"t": "a " * 32_000}),
    ("{% for a in range(99) %}{{ matches(p.t, '(.{1,500}){1,2}z$') }}{% endfor %}", {"t": "a" * 3_000}),
    ("{% for a in range(99) %}{{ matches(p.t, '(a|b)*a(a|b){20}c') }}{% endfor %}", {"t": "abaab" * 13_000}),
    ("{% for a in range(99) %}{{ extract_all(p.t, 'x') | length }}{% endfor %}", {"t": "x" * 2_000}),
    ("{{ replace_pattern(p.t, 'x', p.t) }}", {"t": MIB}),
    ("{{ replace_pattern(p.t, 'x', 'y') }}", {"t": MIB}),
    ("{{ escape(p.t) }}", {"t": "<" * 1_000_000}),
    ("{{ url_encode(p.t) }}", {"t": "é" * 600_000}),
    ("{{ [" + "p.t," * 300 + "] }}", {"t": MIB}),
    ("{{ [" + "upper(p.t)," * 300 + "] }}", {"t": MIB}),
    ("{{ {" + ",".join(f"'{n}': p.t" for n in range(300)) + "} }}", {"t": MIB}),
    ("{{ [p.l, p.l, p.l, p.l, p.l, p.l, p.l, p.l, p.l, p.l, p.l, p.l] ~ '' }}", {"l": LIST}),
    ("{{ json([p.t, p.t]) }}", {"t": MIB}),
    ("{{ p.l + p.l }}", {"l": LIST}),
    ("{{ flatten([p.l, p.l]) }}", {"l": LIST}),
    ("{{ sort(p.l) }}", {"l": LIST * 2}),
    ("{{ where(p.l, 'a', 'in', p.l) }}", {"l": [{"a": n} for n in range(9_000)]}),
    ("{{ 'q' in p.l }}", {"l": LIST * 2}),
    ("{{ range(0, 100000000) }}", {}),
    ("{{ jsonpath('$.event.properties.l[?(@.a > 10)].b') }}", {"l": [{}] * 340_000}),
    ("{{ jsonpath('$.event.properties.l[?(@.a > 10)].b') }}", {"l": [0] * 500_000}),
    ("{{ jsonpath('$.event.properties.l[0:9].b') }}", {"l": [{}] * 340_000}),
    ("{{ jsonpath('$.event.properties.*.b') }}", {f"k{number}": 1 for number in range(90_000)}),
    (
        "{% for a in p.l %}{{ jsonpath('$.event..b') | length }}{% endfor %}",
        {"l": [0] * 99, "m": [{}] * 5_000},
    ),
    (
        "{% for a in p.l %}{{ jsonpath('$.event..*') | length }}{% endfor %}",
        {"l": [0] * 99, "m": [{}] * 9_000},
    ),
    (
        "{% for a in p.l %}{{ jsonpath('$.event.properties.m[?(@.a[?(@.a[?(@.a > 1)])])]') | length }}{% endfor %}",
        {"l": [0] * 99, "m": [{"a": [{"a": [{"a": 0}] * 9}] * 9}] * 50},
    ),
    ("{{ jsonpath('$.event..a') }}", {"l": [{"b": 1}] * 30_000}),
    ("{{ jsonpath('$.event.properties.l[*]') }}", {"l": [1] * 30_000}),
]


@pytest.mark.parametrize(("text", "properties"), HOSTILE, ids=lambda case: str(case)[:40])
def test_what_is_too_much_fails_soon_and_small(text: str, properties: dict[str, Any]) -> None:
    template = compile_template(text.replace("p.", "event.properties."))
    scope = hostile_scope(**properties)

    def fail() -> None:
        with pytest.raises(NodeError):
            template.render(scope)

    seconds, peak = measure(fail)
    assert seconds < SOON
    assert peak < 20_000_000


SOON = 0.5


def measure(call: Callable[[], object]) -> tuple[float, int]:
    seconds = least(call, SOON)
    tracemalloc.start()
    try:
        call()
        return seconds, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


BOUNDED: list[tuple[str, dict[str, Any]]] = [
    ("jsonpath('$.event.properties.l')[0] | length", {"l": [0] * 500_000}),
    ("jsonpath('$.event.properties.l[7]')", {"l": [0] * 500_000}),
    ("jsonpath('$.event.properties.l[?(@.a > 10)]')", {"l": [{"a": 1}] * 9_000}),
    ("jsonpath('$.event.properties.l[*].a')", {"l": [{"a": 1}] * 9_000, "m": [0] * 400_000}),
    ("event.properties.a == event.properties.b", ALIKE),
    ("event.properties.a == event.properties.a", ALIKE),
    ("event.properties.l | where('a', '==', 1) | length", {"l": [{"a": 1}] * 9_999}),
    ("ago(event.properties.t)", {"t": "1s" * 500_000}),
    ("event.properties.n * event.properties.n * event.properties.n", {"n": 10**300}),
    ("event.properties.n" + " * 9000000000000000000" * 30, {"n": 9}),
    ("number(event.properties.t) + number(event.properties.t)", {"t": "9" * 300}),
    ("int(event.properties.t)", {"t": "9" * 100_000}),
    ("round(event.properties.n, 20)", {"n": 1.7e308}),
    ("matches(event.properties.t, '(a*)*b')", {"t": "a" * 65_000}),
    ("matches(event.properties.t, '(a|a)*$')", {"t": "a" * 65_000 + "!"}),
    ("matches(event.properties.t, '(?i)\\\\b(\\\\w+\\\\s*){1,200}z$')", {"t": "a " * 5_000}),
    ("matches(event.properties.t, '(.{1,500}){1,2}z$')", {"t": "é" * 1_800}),
    ("matches(event.properties.t, '(a|b)*a(a|b){200}c')", {"t": "ab" * 25_000}),
    ("length(extract_all(event.properties.t, '[^\\\\d]'))", {"t": "a" * 1_900}),
    ("length(extract_all(event.properties.t, '\\\\w+'))", {"t": "words " * 3_300}),
    ("length(replace_pattern(event.properties.t, '[^0-9]', ''))", {"t": "a" * 9_000}),
    ("event.properties.n in event.properties.l", {"n": 1, "l": [True] * 9_000}),
    ("matches(event.properties.t, 'a')", {"t": "\ud800"}),
    ("json(event.properties.t) ~ lower(event.properties.t)", {"t": "\ud800"}),
    ("sort(event.properties.l)", {"l": [[], {}, None, True, 1, "a", 2.5] * 1_000}),
    ("unique(event.properties.l)", {"l": [[n % 10, {"a": n % 7}] for n in range(9_000)]}),
]


@pytest.mark.parametrize(("text", "properties"), BOUNDED, ids=lambda case: str(case)[:40])
def test_what_is_large_is_bounded(text: str, properties: dict[str, Any]) -> None:
    expression = compile_expression(text)
    scope = hostile_scope(**properties)
    seconds, peak = measure(lambda: expression.evaluate(scope))
    assert seconds < SOON
    assert peak < 20_000_000


def test_deep_data_fails_a_comparison_but_nothing_else() -> None:
    deep: Any = 1
    for _ in range(5_000):
        deep = [deep]
    scope = hostile_scope(a=deep, b=copy_of(deep))
    with pytest.raises(NodeError):
        compile_expression("event.properties.a == event.properties.b").evaluate(scope)
    with pytest.raises(NodeError):
        compile_template("{{ event.properties.a }}!").render(scope)


def copy_of(deep: Any) -> Any:
    depth = 0
    while isinstance(deep, list):
        deep, depth = deep[0], depth + 1
    for _ in range(depth):
        deep = [deep]
    return deep


def test_a_failure_names_the_template() -> None:
    with pytest.raises(NodeError, match=r"range\(2000\).*1,000"):
        compile_template("{{ range(2000) }}").render(scope_of())


# Properties

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
ATOMS = st.sampled_from(
    [
        "event.properties.a",
        "event.properties.b",
        "profile.traits.c",
        "event.nope",
        "now",
        "event.time.happened",
        "event.properties.a[0]",
        "1",
        "0",
        "-2.5",
        "'a'",
        "''",
        "none",
        "true",
        "[1, 'a']",
        "{'a': 1}",
    ]
)


def combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    binary = st.sampled_from(
        ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]
    )
    names = st.sampled_from(sorted(name for name, function in FILTERS.items() if not function.prepared))
    tests = st.sampled_from(sorted(set(TESTS) - {"in"}))
    return (
        st.builds("({} {} {})".format, inner, binary, inner)
        | st.builds("({} | {})".format, inner, names)
        | st.builds("{}({}, {})".format, names, inner, inner)
        | st.builds("({} is {})".format, inner, tests)
        | st.builds("({} if {} else {})".format, inner, inner, inner)
        | st.builds("(not {})".format, inner)
        | st.builds("{}[{}:{}]".format, inner, inner, inner)
        | st.builds("{}[{}]".format, inner, inner)
    )


@given(text=st.recursive(ATOMS, combined, max_leaves=8), a=JSON, b=JSON, c=JSON)
def test_any_expression_on_any_data_gives_a_value_or_a_node_error(text: str, a: Any, b: Any, c: Any) -> None:
    scope = hostile_scope(a=a, b=b)
    scope.set("profile", {"traits": {"c": c}, "time": {}})
    try:
        expression = compile_expression(text)
    except ExpressionError:
        return
    with contextlib.suppress(NodeError):
        expression.evaluate(scope)
    with contextlib.suppress(NodeError):
        compile_template("{{ " + text + " }}!").render(scope)


SYNTAX = st.text("{}%#'\"\\|.,()[]~+-*/<>=! \n_aif19é\ud800\0", max_size=60)
WORDS = st.lists(
    st.sampled_from(
        [
            "{{",
            "}}",
            "{%",
            "%}",
            "{#",
            "#}",
            "{%-",
            "-%}",
            "if",
            "for",
            "in",
            "endif",
            "endfor",
            "set",
            "x",
            "event",
            "=",
            "|",
            "(",
            ")",
            "[",
            "]",
            ".",
            ",",
            "'",
            "raw",
            "endraw",
            "else",
            "not",
            "is",
            "none",
            "1",
            "lower",
            "autoescape",
            "with",
            "filter",
            "call",
            "macro",
            "block",
            "include",
            "import",
        ]
    ),
    max_size=25,
).map(" ".join)


@given(text=SYNTAX | WORDS)
def test_any_text_compiles_or_says_where_it_is_wrong(text: str) -> None:
    for compiling in (compile_expression, compile_template, compile_url_template, compile_header_template):
        error = fault_of(compiling, text)
        if error is not None:
            lines = text.split("\n")
            assert 1 <= error.line <= len(lines)
            assert 1 <= error.column <= len(lines[error.line - 1]) + 1


def fault_of(compiling: Callable[[str], Any], text: str) -> ExpressionError | None:
    try:
        assert compiling(text).text == text
    except ExpressionError as error:
        return error
    return None


@given(value=JSON)
def test_a_lone_template_gives_any_value_unchanged_and_unevaluated(value: Any) -> None:
    scope = hostile_scope(value=value)
    assert same_kind(compile_template("{{ event.properties.value }}").render(scope), value)


@given(value=st.text())
def test_no_value_leaves_its_part_of_a_url(value: str) -> None:
    scope = hostile_scope(value=value)
    template = compile_url_template(
        "https://a.example/x/{{ event.properties.value }}/y?q={{ event.properties.value }}#z"
    )
    try:
        url = template.render(scope)
    except NodeError:
        return
    assert url.startswith("https://a.example/x/")
    assert [url.count(mark) for mark in "/?=#"] == [5, 1, 1, 1]
    assert url.isascii()
    assert url.isprintable()


@given(left=JSON, right=JSON)
def test_comparing_is_what_it_says(left: Any, right: Any) -> None:
    scope = hostile_scope(a=left, b=right)

    def test(operator: str) -> bool:
        return compile_expression(f"event.properties.a {operator} event.properties.b").test(scope)

    results = {operator: test(operator) for operator in ("==", "!=", "<", "<=", ">", ">=")}
    assert not (results["=="] and results["!="])
    if left is None or right is None:
        assert not any(results.values())
    if results["<"]:
        assert results["<="]
        assert results["!="]
        assert not results[">="]
    if results["<="] and results[">="]:
        assert results["=="]
