"""Strict JSON: what is taken exactly, what is refused, and where."""

import re
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.engine.errors import InputError
from headrace.engine.store.encoding import decode_doc
from headrace.engine.strict_json import MAX_DEPTH, SMALL_BYTES, decode
from tests.pace import timed

SCALARS = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text('a"\\[]{}\n', max_size=6)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('b"\\[{', max_size=3), inner, max_size=3)
    ),
)


def depth(value: Any) -> int:
    """Return how deep a value is, the slow and plain way."""
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


@given(VALUES, st.integers(0, 70), st.integers(0, 70))
def test_the_depth_is_exact(value: Any, wraps: int, wide: int) -> None:
    for _ in range(wraps):
        value = [*[{}] * wide, value]
    body = msgspec.json.encode(value)
    if depth(value) > MAX_DEPTH:
        with pytest.raises(InputError, match="nested too deep"):
            decode(body)
    else:
        assert decode(body) == value


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"a":\nNaN}', "NaN is not JSON, line 2, column 1"),
        (b"[Infinity]", "Infinity is not JSON"),
        (b"[-Infinity]", "Infinity is not JSON"),
        (b'"\\ud800"', "lone surrogate \\ud800 is no character, line 1, column 2"),
        (b'["\\ud800x", "\\ud83d\\ude00"]', "lone surrogate"),
        (b'"\\udc00"', "lone surrogate is no character, line 1, column 2"),
        (b'{"a":\n "x\\udc00y"}', "lone surrogate is no character, line 2, column 4"),
        (b'"ab\xff"', "not UTF-8: byte 0xff, line 1, column 4"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (b"", "empty"),
        (b" \n", "empty"),
        (b'{"a":1}x', "trailing characters, line 1, column 9"),
        (b"[1,", "ends too early, line 1, column 4"),
        (b'{"a":1,}', "trailing comma"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"1e400", "out of range, line 1, column 1: whole"),
        (b"7" * 5000, "out of range, line 1, column 1: whole"),
        (b'{"a": "1e400",\n "b\\"1e400": [1, 1.5e3, -12.5e+400]}', "out of range, line 2, column 25: whole"),
        (b"[1, " + b"7" * 400 + b".5]", "out of range, line 1, column 5: whole"),
        (b"[1, -" + b"7" * 4301 + b"]", "out of range, line 1, column 5: whole"),
        (b"[" * 100_000, "nested too deep, line 1, column 65: at most"),
        (b"[" * 65 + b"]" * 65, "nested too deep, line 1, column 65: at most"),
        (
            b'{"[[\\"[": [' + b"[]," * 100 + b"\n" + b"[" * 63 + b"]" * 64 + b"}",
            "too deep, line 2, column 63: at most",
        ),
        # Too far down to be looked for.
        (b"[" + b"[]," * 300_000 + b"[" * 64 + b"]" * 65, "nested too deep: at most"),
        (b'"\x00"', "invalid character"),
    ],
)
def test_what_is_refused_says_why_and_where(body: bytes, said: str) -> None:
    with pytest.raises(InputError) as caught:
        decode(body)
    assert (caught.value.status, caught.value.code) == (400, "bad_json")
    assert said in caught.value.detail


def test_numbers_keep_their_value() -> None:
    assert decode(b"[12345678901234567890123456789, 0.1, -0, 1E2]") == [
        12345678901234567890123456789,
        0.1,
        0,
        100.0,
    ]


def test_the_last_of_members_with_one_name_wins() -> None:
    assert decode(b'{"a":1,"a":2}') == {"a": 2}


def test_odd_names_and_signs_are_kept() -> None:
    body = b'{"__proto__":1,"a.b":2,"$c":3,"\\u0000":4,"\\ud83d\\ude00":5}'
    assert decode(body) == {"__proto__": 1, "a.b": 2, "$c": 3, "\x00": 4, "\U0001f600": 5}


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"[]," * 300_000 + b"1]",
        b'["' + b"[" * 1_000_000 + b'"]',
        b'["' + b'\\"[' * 330_000 + b'"]',
        b"[" + b'"[",' * 250_000 + b"1]",
        b"[" + b"7" * 1_000_000 + b"]",
        b"[" + b"7" * 4300 + b",7" * 400_000 + b"]",
    ],
)
def test_a_hostile_mebibyte_costs_little(body: bytes) -> None:
    with timed() as took, suppress(InputError):
        decode(body)
    assert took.seconds < 0.5


FAR_NUMBERS = [
    b"1e300",
    b"-1e308",
    b"5e-324",
    b"1E+0301",
    b"2.2250738585072011e-308",
    b"35444217379909477862e283",
]
DIGITS = st.text("0123456789", min_size=1, max_size=40)
NUMBERS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "-"]),
    DIGITS.map(lambda digits: digits.lstrip("0") or "0"),
    st.just("") | DIGITS.map(".{}".format),
    st.just("")
    | st.builds(
        "{}{}{}".format, st.sampled_from(["e", "E"]), st.sampled_from(["", "+", "-"]), st.integers(0, 420)
    ),
)


@pytest.mark.parametrize("number", FAR_NUMBERS)
@pytest.mark.parametrize("reads", [decode, decode_doc])
def test_a_mebibyte_of_far_numbers_costs_little(reads: Any, number: bytes) -> None:
    body = b'{"a":[' + b",".join([number] * ((1 << 20) // (len(number) + 1) - 2)) + b"]}"
    with timed() as took:
        found = reads(memoryview(body) if reads is decode_doc else body)
    assert took.seconds < 0.4
    assert set(found["a"]) == {float(number)}


def test_far_numbers_between_others_cost_little_wherever_they_stand() -> None:
    far, others = b"1e300," * 10_000, b'"some text of a client",' * 1_500
    for place in range(4):
        body = b"[" + others * place + far + others * (3 - place) + b"1]"
        with timed() as took:
            decode(body)
        assert took.seconds < 0.03


def outcome(body: bytes, start: int) -> str:
    """Return what became of a list from a place on: the exact values, or why it is refused, wherever that stands."""
    try:
        return repr(decode(body)[start:])
    except InputError as refused:
        return re.sub(r", line \d+, column \d+", "", refused.detail)


@given(st.lists(NUMBERS, max_size=4))
def test_a_number_is_the_same_among_many_far_ones(numbers: list[str]) -> None:
    text = ",".join(["1", *numbers]).encode()
    count = SMALL_BYTES // 4
    assert outcome(b"[" + b"1e300," * count + text + b"]", count) == outcome(b"[" + text + b"]", 0)


@pytest.mark.parametrize("sign", [b"1.5,", b"[],", b'"x",', b'"\\\\",', b"1e300,"])
def test_a_place_is_looked_for_no_longer_than_it_may_take(sign: bytes) -> None:
    most = 1_000_000
    for body in (b"[" + sign * (most // len(sign)) + end for end in (b"1e400]", b"[" * 64 + b"]" * 65)):
        with timed() as took, pytest.raises(InputError, match=r"out of range|too deep"):
            decode(body)
        assert took.seconds < 0.5


@pytest.mark.parametrize("number", [b"1e400", b"-1e309", b"1e99999999999999999999", b"1.8e308"])
def test_a_number_out_of_range_is_refused_among_many_far_ones(number: bytes) -> None:
    for count in (0, SMALL_BYTES):
        with pytest.raises(InputError, match="out of range") as caught:
            decode(b"[" + b"1e300," * count + number + b"]")
        assert (caught.value.status, caught.value.code) == (400, "bad_json")


def test_ids_in_hex_are_no_numbers() -> None:
    body = msgspec.json.encode([f"{number:032x}e300" for number in range(2_000)])
    assert decode(body) == msgspec.json.decode(body)
