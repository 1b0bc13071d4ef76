"""Hostile bodies against a real server: never a 5xx, nothing half kept."""

import json
import random
import time
import zlib
from collections.abc import Iterator
from copy import deepcopy
from typing import Any
from urllib.parse import quote

import pytest

from tests.live.checks import kept, refused
from tests.live.connection import Connection
from tests.live.server import Doc, Server, track_body
from tests.makers import zipped

MIB = 1 << 20

WHOLE: Doc = {
    "source": {"id": "web"},
    "session": {"id": "whole"},
    "profile": {"id": None},
    "context": {"page": {"url": "https://shop.example/"}, "screen": 1},
    "properties": {"a": 1},
    "events": [
        {
            "type": "page-view",
            "id": "w",
            "time": "2026-01-15T12:00:00Z",
            "properties": {"items": [1]},
            "context": {"a": 1},
            "options": {"save": True},
        },
        {"type": "items", "properties": {}, "context": {}, "id": "v"},
    ],
    "options": {"debugger": True, "profile": True, "saveSession": True, "saveEvents": True},
    "sentAt": "2026-01-15T12:00:00Z",
}
WRONG: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 10**40, 1e300, "", " ", "x", "\0", "true", "2026", "é" * 300),
    *(
        [],
        {},
        [[]],
        [None],
        [{}],
        {"": 0},
        {"id": {}},
        {"id": "\n"},
        {"type": 1},
        [{"type": "x"}],
        "x" * 100_000,
    ),
)

# Each is one JSON value that must come back as it was sent.
EXACT: tuple[str, ...] = (
    "12345678901234567890123456789012345678901234567890",
    "-98765432109876543210",
    "9007199254740993",
    "1" + "0" * 4299,
    "0.1",
    "5e-324",
    "1.7976931348623157e308",
    "-0.0",
    '""',
    '"\\u0000"',
    '"a\\u0000b"',
    '"\\ud83d\\ude00"',
    '"\\u202e\\ufeff\\u2028"',
    '"{{ 7 * 7 }}"',
    '"\'; DROP TABLE events; --"',
    '"<script>alert(1)</script>"',
    '"%s%n{}{0.__class__}"',
    '{"a.b": 1, "a": {"b": 2}, "a[0]": 3}',
    '{"$ref": "#", "$where": 1, "$": 2}',
    '{"__proto__": {"admin": true}, "constructor": {"prototype": {}}, "__class__": 1, "__dict__": {}}',
    '{"": {"": {"": ""}}, " ": 1, "\\u0000": 2, "\\n": 3}',
    '{"items": 1, "keys": 2, "values": 3, "get": 4, "pop": 5, "update": 6, "copy": 7}',
    "[[[[[[[[[[]]]]]]]]]]",
    "[null, true, false]",
    '{"é": "ü", "\\ud83d\\ude00": 1}',
)

NAMES = (
    *(
        "items",
        "keys",
        "values",
        "get",
        "pop",
        "update",
        "clear",
        "copy",
        "__class__",
        "__init__",
        "__dict__",
    ),
    *(
        "__proto__",
        "constructor",
        "toString",
        "self",
        "event",
        "profile",
        "*",
        "a*b",
        "?",
        "[a]",
        ".",
        "..",
        "/",
    ),
    *(
        "a/b",
        "a.b",
        "$",
        "%",
        "{{ 1 }}",
        "'",
        '"',
        "\\",
        "<b>",
        "\u202e",
        "\U0001f600",
        "é",
        "None",
        "null",
        "\0",
    ),
    *("\n", " x ", "x" * 128),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value within a value, the whole last."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield from places(each, (*path, name))
    yield path


def replaced(path: tuple[Any, ...], wrong: Any) -> Any:
    """Return the whole body with another value at a place."""
    body = deepcopy(WHOLE)
    if not path:
        return wrong
    *outer, last = path
    inner: Any = body
    for name in outer:
        inner = inner[name]
    inner[last] = wrong
    return body


async def test_wrong_types_at_every_place(unharmed: Server) -> None:
    connection, statuses = Connection(unharmed.port), dict[int, int]()
    after = kept(unharmed)
    for number, path in enumerate(places(WHOLE)):
        for turn, wrong in enumerate(WRONG):
            body = replaced(path, wrong)
            with_ids = isinstance(body, dict) and isinstance(body.get("events"), list)
            for place, event in enumerate(body["events"] if with_ids else ()):
                if isinstance(event, dict) and isinstance(event.get("id"), str) and len(event["id"]) == 1:
                    event["id"] = f"{event['id']}-{number}-{turn}-{place}"
            before = after
            status, answer = await connection.post(json.dumps(body).encode())
            statuses[status] = statuses.get(status, 0) + 1
            after = kept(unharmed)
            if status == 200:
                saved = answer["debugging"]["events"]["saved"] if "debugging" in answer else None
                assert saved in (None, after["events"] - before["events"]), (path, wrong)
                # An id that came up before is one that was used for another event.
                assert {error["code"] for error in answer.get("errors", [])} <= {"id_reused"}, (path, wrong)
                assert after["failed"] - before["failed"] <= len(answer.get("errors", [])), (path, wrong)
            else:
                assert status in (400, 401, 422), (path, wrong, answer)
                assert after == before, (path, wrong)
                assert status != 422 or answer["errors"], (path, wrong)
    connection.close()
    assert statuses[200] > 100
    assert statuses[422] > 300


@pytest.mark.parametrize("text", EXACT)
def test_a_value_comes_back_as_it_was_sent(unharmed: Server, text: str) -> None:
    name = f"exact-{time.monotonic_ns()}"
    value = json.loads(text)
    body = (
        f'{{"source": {{"id": "web"}}, "session": {{"id": "{name}"}}, "context": {{"v": {text}}}, '
        f'"properties": {{"v": {text}}}, "options": {{"profile": true, "debugger": true}}, '
        f'"events": [{{"type": "exact", "id": "{name}", "context": {{"v": {text}}}, '
        f'"properties": {{"v": {text}, "items": {text}, "a.b": {text}}}}}]}}'
    )
    status, answer = unharmed.post(body.encode())
    assert status == 200
    _, event = unharmed.get(f"/api/events/{name}")
    _, session = unharmed.get(f"/api/sessions/{name}")
    status, profile = unharmed.get(f"/api/profiles/{answer['profile']['id']}")
    found = [
        event["properties"]["v"],
        event["context"]["v"],
        session["properties"]["v"],
        session["context"]["v"],
    ]
    if isinstance(value, int) and abs(value) >= 1 << 63:
        # Events keep any number; what a workflow writes to a profile has at most 64 bits.
        assert "items" not in profile["traits"]
    else:
        # A text takes part in templates as it is, and is no template.
        found += [profile["traits"]["items"], answer["profile"]["traits"]["items"]]
    assert {repr(each) for each in found} == {repr(value)}
    assert unharmed.get(f"/api/events/{name}/story")[0] == 200


@pytest.mark.parametrize("name", NAMES)
def test_names_of_any_kind(unharmed: Server, name: str) -> None:
    if not name.strip():
        refused(unharmed, json.dumps(track_body(name)).encode(), 422, "bad_fields")
        return
    session = f"s-{time.monotonic_ns()}"
    body = track_body(name, name, session=session)
    body["events"][0]["properties"] = {name: {name: [name]}, "items": {name: 1}}
    body |= {
        "context": {name: name},
        "properties": {name: name},
        name: {name: name},
        "options": {"debugger": True},
    }
    status, answer = unharmed.post(body)
    assert status == 200, answer
    assert answer["debugging"]["events"]["types"] == [name, name] or answer["debugging"]["events"][
        "types"
    ] == [name]
    unharmed.place.show()
    _, found = unharmed.get(f"/api/events?session={session}&type={quote(name, safe='')}")
    assert [event["type"] for event in found["items"]] == [name, name]
    assert {"properties": body["events"][0]["properties"]}.items() <= found["items"][-1].items()
    if name.strip() == name and name.isprintable():
        status, _ = unharmed.post(track_body("x", session=name))
        assert status == 200
        assert unharmed.get(f"/api/sessions/{quote(name, safe='')}")[1]["id"] == name
    status, _, _ = unharmed.request("POST", f"/collect/{quote(name, safe='')}/web", b'{"a": 1}')
    assert status == 200


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (place, value)
        for place in ("properties", "context", "unknown")
        for value in (
            b"NaN",
            b"-Infinity",
            b'"\\ud800"',
            b'"\\udc00\\ud800"',
            b'"\xff"',
            b'"\xed\xa0\x80"',
            b"01",
            b"1.",
        )
    ]
    + [("properties", b"1" * 4301), ("properties", b"1e999"), ("unknown", b'"\xc0\xaf"')],
)
def test_what_is_not_strict_json_is_400(unharmed: Server, place: str, value: bytes) -> None:
    body = b'{"source":{"id":"web"},"session":{"id":"s"},"events":[{"type":"x","%s":{"v":%s}}],"%s":{"v":%s}}'
    name = place.encode()
    refused(unharmed, body % (name, value, b"z", b"1"), 400, "bad_json")
    refused(unharmed, body % (b"z", b"1", name, value), 400, "bad_json")


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b" ", b"\0", b"{", b"}", b"[", b'"', b"nul", b"{}x", b'{"a"}', b"{'a': 1}", b"\xef\xbb\xbf{}"),
        *(
            b"\xff\xfe{\0}\0",
            b"\x1f\x8b",
            b"<xml/>",
            b"a=b&c=d",
            bytes(range(256)),
            b"[" * 100_000,
            b'{"a":' * 100_000,
        ),
        *(b"[" * 500_000 + b"]" * 500_000, b'{"events":' + b"[" * 70 + b"]" * 70 + b"}"),
    ],
)
def test_what_is_no_json_is_400(unharmed: Server, body: bytes) -> None:
    refused(unharmed, body, 400, "bad_json")
    if body.strip():
        refused(unharmed, body, 400, "bad_json", path="/collect/x/web")


def test_depth_has_an_end(unharmed: Server) -> None:
    def deep(levels: int) -> bytes:
        # The event's properties are the fourth level: body, list, event, properties.
        inner = b"[" * (levels - 4) + b"]" * (levels - 4)
        return (
            b'{"source":{"id":"web"},"session":{"id":"d"},"events":[{"type":"x","properties":{"v":%s}}]}'
            % inner
        )

    status, _ = unharmed.post(deep(64))
    assert status == 200
    for levels in (65, 66, 1000, 100_000):
        refused(unharmed, deep(levels), 400, "bad_json")


def test_a_wide_body_is_taken_in_bounded_time(unharmed: Server) -> None:
    began = time.monotonic()
    wide: Doc = {f"k{n}": n for n in range(60_000)}
    body = track_body("wide", session="wide", properties=wide, options={"debugger": True, "profile": True})
    assert unharmed.post(body)[0] == 200
    body = track_body("wide", session="wide")
    body["events"][0]["properties"] = {"items": list(range(120_000))}
    assert unharmed.post(body)[0] == 200
    body["events"][0]["properties"] = {"items": {f"k{n}": [] for n in range(60_000)}}
    assert unharmed.post(body)[0] == 200
    assert time.monotonic() - began < 40


def test_too_many_events_keep_nothing(unharmed: Server) -> None:
    body = json.dumps(track_body(*("x" for _ in range(10_000)), session="many")).encode()
    refused(unharmed, body, 413, "too_many_events")
    refused(unharmed, json.dumps(track_body(*("x" for _ in range(1001)))).encode(), 413, "too_many_events")
    before = kept(unharmed)["events"]
    assert unharmed.post(track_body(*("x" for _ in range(1000)), session="many"))[0] == 200
    assert kept(unharmed)["events"] == before + 1000


def test_size_has_an_end(unharmed: Server) -> None:
    body = json.dumps(track_body("x", session="size")).encode()
    assert unharmed.post(body + b" " * (MIB - len(body)))[0] == 200
    refused(unharmed, body + b" " * (MIB - len(body) + 1), 413, "body_too_large")
    refused(unharmed, body + b" " * (3 * MIB), 413, "body_too_large")


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", zipped(b"[" + b" " * 200 * MIB), 413),
        ("deflate", zlib.compress(b" " * 200 * MIB), 413),
        ("gzip", zipped(zipped(b" " * 200 * MIB)), 400),
        ("gzip", zipped(b"{}") * 1000, 400),
        ("gzip", zipped(b"{}")[:-3], 400),
        ("gzip", b"\x1f\x8b" + b"\xff" * 100, 400),
        ("gzip", b"{}", 400),
        ("deflate", b"\xff" * 50, 400),
        ("gzip, gzip", zipped(zipped(b"{}")), 415),
        ("br", b"{}", 415),
        ("gzip;q=1", zipped(b"{}"), 415),
        ("\xe9", b"{}", 415),
    ],
)
def test_packed_bodies(unharmed: Server, encoding: str, body: bytes, status: int) -> None:
    before = unharmed.resident_mib()
    refused(unharmed, body, status, Content_Encoding=encoding)
    assert unharmed.resident_mib() - before < 40


@pytest.mark.parametrize(
    ("time_text", "status"),
    [
        *(
            ("9999-12-31T23:59:59.999999Z", 200),
            ("0001-01-01T00:00:00Z", 200),
            ("2026-01-01", 200),
            ("", 200),
        ),
        *(("0000-00-00", 422), ("now", 422), ("1e9", 422), ("9" * 5000, 422), ("2026-13-01T00:00:00Z", 422)),
        *(
            ("2026-01-01T00:00:00+99:99", 422),
            ("\0", 422),
            ("٢٠٢٦-01-01", 422),
            ("99999-01-01T00:00:00Z", 422),
        ),
    ],
)
def test_times(unharmed: Server, time_text: str, status: int) -> None:
    body = track_body("timed", session="timed")
    body["events"][0]["time"] = time_text
    assert unharmed.post(body)[0] == status
    assert unharmed.post(track_body("timed", session="timed", sentAt=time_text))[0] in (status, 200)
    body["sentAt"] = time_text
    assert unharmed.post(body)[0] == status


def test_random_changes_of_a_body_never_fault(unharmed: Server) -> None:
    dice, body = random.Random(7), json.dumps(WHOLE).encode()
    for _ in range(1500):
        data = bytearray(body)
        for _ in range(dice.choice((1, 1, 2, 5))):
            at = dice.randrange(len(data))
            data[at : at + dice.choice((0, 1, 1, 8))] = bytes(
                dice.choices(b'{}[]",:\\u0019\xff\x00nulltrue', k=dice.randrange(4))
            )
        status, _ = unharmed.post(bytes(data))
        assert status in (200, 400, 401, 422)
