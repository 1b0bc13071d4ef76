"""POST /track: every row of the contract."""

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.api.doors.track import _decode, _plain, read_track
from headrace.engine.errors import InputError
from tests.api.conftest import ADMIN, SECRET, Opens, Server, body_of
from tests.pace import timed

FULL = {
    "source": {"id": "web"},
    "session": {"id": "session-id"},
    "profile": {"id": "profile-id"},
    "context": {"device": "iPhone X"},
    "properties": {"any": [1, {"schema": None}]},
    "events": [
        {"type": "purchase-order", "properties": {"product": "Nike shoes", "quantity": 1}},
        {"type": "page-view"},
    ],
    "options": {},
}


@pytest.mark.requirement("004-8")
@pytest.mark.requirement("004-9")
@pytest.mark.requirement("004-21")
@pytest.mark.requirement("004-1")
@pytest.mark.requirement("004-7")
@pytest.mark.requirement("004-26")
async def test_the_full_example(server: Server) -> None:
    answer = await server.track(FULL)
    assert answer.status_code == 200
    told = answer.json()
    assert UUID(told["profile"]["id"]).version == 4
    assert told["profile"]["id"] != "profile-id"
    assert told["session"] == {"id": "session-id"}
    assert told["source"] == {"consent": False}
    assert set(told) == {"profile", "session", "source", "response"}
    assert told["response"] == {"hello": "Nike shoes"}


@pytest.mark.requirement("004-11")
@pytest.mark.requirement("004-12")
@pytest.mark.requirement("004-50")
async def test_only_what_is_required(server: Server) -> None:
    answer = await server.track(
        {"source": {"id": "web"}, "session": {"id": "s"}, "events": [{"type": "page-view"}]}
    )
    assert answer.status_code == 200
    assert set(answer.json()) == {"profile", "session", "source"}
    assert set(answer.json()["profile"]) == {"id"}


@pytest.mark.requirement("004-24")
@pytest.mark.requirement("004-13")
@pytest.mark.requirement("004-2")
@pytest.mark.requirement("004-3")
@pytest.mark.requirement("004-5")
@pytest.mark.requirement("004-6")
async def test_context_and_every_event_are_kept(server: Server) -> None:
    await server.track(FULL)
    found = (await server.read("/api/events?session=session-id")).json()["items"]
    assert {event["type"] for event in found} == {"purchase-order", "page-view"}
    assert (await server.read("/api/sessions/session-id")).json()["context"]["device"] == "iPhone X"


@pytest.mark.requirement("004-20")
@pytest.mark.requirement("004-16")
@pytest.mark.requirement("004-17")
@pytest.mark.requirement("004-18")
async def test_a_returned_profile_id_keeps_the_profile(server: Server) -> None:
    first = (await server.track(body_of("page-view"))).json()["profile"]["id"]
    again = await server.track(body_of("page-view", session="s2", profile={"id": f" {first} "}))
    assert again.json()["profile"]["id"] == first


@pytest.mark.parametrize("profile", [None, {}, {"id": None}, {"id": ""}, {"id": "  "}])
@pytest.mark.requirement("004-19")
async def test_no_profile_id_makes_one(server: Server, profile: Any) -> None:
    answer = await server.track(body_of("page-view", profile=profile))
    assert UUID(answer.json()["profile"]["id"]).version == 4


@pytest.mark.parametrize("source", ["nobody", "closed", "backend"])
@pytest.mark.requirement("004-14")
async def test_an_unknown_or_disabled_source_or_a_missing_key_is_401(server: Server, source: str) -> None:
    answer = await server.track(body_of("page-view", source=source))
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "unauthorized"


async def test_no_source_at_all_is_401(server: Server) -> None:
    assert (await server.track({"session": {"id": "s"}, "events": []})).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": f"Bearer {SECRET}"}, 200),
        ({"authorization": "Basic YmFja2VuZC1zZWNyZXQ6"}, 200),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Basic !!!"}, 401),
        ({"authorization": "Basic /w=="}, 401),
        ({}, 401),
    ],
)
async def test_a_secret_key_opens_its_source(server: Server, headers: dict[str, str], status: int) -> None:
    assert (await server.track(body_of("x", source="backend"), headers=headers)).status_code == status


BAD = [
    ({"source": {}}, ["/source/id"]),
    ({"source": {"id": 5}}, ["/source/id"]),
    ({"source": "web"}, ["/source", "/source/id"]),
    ({"source": {"id": ""}}, ["/source/id"]),
    ({"session": None}, ["/session"]),
    ({"session": {}}, ["/session/id"]),
    ({"session": {"id": ""}}, ["/session/id"]),
    ({"session": {"id": "  "}}, ["/session/id"]),
    ({"session": {"id": 7}}, ["/session/id"]),
    ({"session": {"id": "x" * 257}}, ["/session/id"]),
    ({"session": {"id": "a\u0000b"}}, ["/session/id"]),
    ({"session": "s"}, ["/session", "/session/id"]),
    ({"profile": "p"}, ["/profile"]),
    ({"profile": {"id": 1}}, ["/profile/id"]),
    ({"profile": {"id": "a\nb"}}, ["/profile/id"]),
    ({"events": None}, ["/events"]),
    ({"events": {}}, ["/events"]),
    ({"events": [None]}, ["/events/0"]),
    ({"events": ["page-view"]}, ["/events/0"]),
    ({"events": [{}]}, ["/events/0/type"]),
    ({"events": [{"type": None}]}, ["/events/0/type"]),
    ({"events": [{"type": "  "}]}, ["/events/0/type"]),
    ({"events": [{"type": 1}]}, ["/events/0/type"]),
    ({"events": [{"type": "x" * 129}]}, ["/events/0/type"]),
    ({"events": [{"type": "x"}, {"type": "x", "properties": []}]}, ["/events/1/properties"]),
    ({"events": [{"type": "x", "context": 1}]}, ["/events/0/context"]),
    ({"events": [{"type": "x", "id": 1}]}, ["/events/0/id"]),
    ({"events": [{"type": "x", "id": "\u0085"}]}, []),
    ({"events": [{"type": "x", "time": 12}]}, ["/events/0/time"]),
    ({"events": [{"type": "x", "time": "yesterday"}]}, ["/events/0/time"]),
    ({"events": [{"type": "x", "options": {"save": "no"}}]}, ["/events/0/options/save"]),
    ({"events": [{"type": "x", "options": 1}]}, ["/events/0/options"]),
    ({"context": []}, ["/context"]),
    ({"properties": "x"}, ["/properties"]),
    ({"options": []}, ["/options"]),
    ({"options": {"debugger": 1}}, ["/options/debugger"]),
    ({"options": {"profile": "true"}}, ["/options/profile"]),
    ({"options": {"saveSession": None}}, ["/options/saveSession"]),
    ({"options": {"saveEvents": 0, "debugger": "x"}}, ["/options/debugger", "/options/saveEvents"]),
    ({"sentAt": 5}, ["/sentAt"]),
    (
        {"source": {"id": 1}, "session": None, "events": [{"type": ""}, 5]},
        ["/source/id", "/session", "/events/0/type", "/events/1"],
    ),
]


@pytest.mark.parametrize(("change", "pointers"), BAD)
@pytest.mark.requirement("004-10")
@pytest.mark.requirement("004-15")
@pytest.mark.requirement("004-43")
async def test_every_bad_field_is_named(server: Server, change: dict[str, Any], pointers: list[str]) -> None:
    for query in ("", "?profile_less=true"):
        answer = await server.client.post(f"/track{query}", content=json.dumps(body_of("page-view") | change))
        if not pointers:
            assert answer.status_code == 200
            return
        assert answer.status_code == 422, answer.text
        problem = answer.json()
        assert [error["pointer"] for error in problem["errors"]] == pointers
        assert all(error["message"] for error in problem["errors"])
        assert {"type", "title", "status", "detail", "code"} <= set(problem)
    assert (await server.read("/api/events")).json()["items"] == []


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"1", b"null", b"true"])
async def test_a_body_that_is_no_object_is_422(server: Server, body: bytes) -> None:
    assert (await server.track(body)).status_code == 422


async def test_no_events_is_fine_and_keeps_no_event(server: Server) -> None:
    answer = await server.track(body_of())
    assert answer.status_code == 200
    assert answer.json()["profile"]["id"]
    assert (await server.read("/api/sessions/s1")).status_code == 200
    assert (await server.read("/api/events")).json()["items"] == []


async def test_too_many_events_keep_nothing(server: Server) -> None:
    answer = await server.track(body_of(*["x"] * 1001))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_many_events")
    assert (await server.track(body_of(*["x"] * 10_000))).status_code == 413
    assert (await server.read("/api/sessions/s1")).status_code == 404


async def test_a_context_that_would_fill_the_store_keeps_nothing(server: Server) -> None:
    large = {"x": "a" * 200_000}
    answer = await server.track(body_of(*["x"] * 100, context=large))
    told = answer.json()
    assert (answer.status_code, told["code"]) == (413, "context_too_large")
    assert "200008 bytes, which stand in each of 100 events" in told["detail"]
    assert told["errors"] == [{"pointer": "/context", "message": "is too large for so many events"}]
    assert (await server.read("/api/sessions/s1")).status_code == 404
    # What it says to do.
    assert (await server.track(body_of(context=large))).status_code == 200
    assert (await server.track(body_of("x", "x", context=large))).status_code == 200
    assert (await server.read("/api/sessions/s1")).json()["context"] == large


async def test_many_events_with_large_properties_and_a_small_context_are_kept(server: Server) -> None:
    body = body_of(*["x"] * 100, context={"x": "a" * 200})
    for event in body["events"]:
        event["properties"] = {"x": "b" * 9_000}
    assert (await server.track(body)).status_code == 200


async def test_a_context_is_measured_as_it_is_kept(server: Server) -> None:
    events = ["x"] * 400
    numbers = b"[" + b"1e15," * 2_400 + b"1]"
    body = json.dumps(body_of(*events, context={"x": 0})).encode()
    answer = await server.track(body.replace(b'"context": {"x": 0}', b'"context": {"x": ' + numbers + b"}"))
    assert answer.json()["code"] == "context_too_large"


async def test_a_referrer_that_would_fill_the_store_is_refused(server: Server) -> None:
    long = {"referer": "https://shop.example/" + "a" * 30_000}
    answer = await server.track(body_of(*["x"] * 600), headers=long)
    assert answer.json()["code"] == "context_too_large"
    assert (await server.track(body_of("x"), headers=long)).status_code == 200


@pytest.mark.requirement("004-22")
@pytest.mark.requirement("004-23")
async def test_unknown_members_and_hostile_names_are_harmless(server: Server) -> None:
    odd = {"__proto__": {"a": 1}, "a.b": 1, "$where": 2, "\u0000": 3, "items": 4, "": 5, "big": 10**4299}
    body = body_of("keys", more=odd, tags=[1]) | {"context": odd, "properties": odd}
    body["events"] = [{"type": "keys", "properties": odd, "context": odd, "extra": odd}]
    assert (await server.track(body)).status_code == 200
    (event,) = (await server.read("/api/events")).json()["items"]
    assert event["properties"] == odd
    assert (await server.track(body_of("values", "items", "__class__"))).status_code == 200


async def test_of_members_with_one_name_the_last_wins(server: Server) -> None:
    body = (
        b'{"source":5,"source":{"id":"web"},"session":{"id":"a"},"session":{"id":"b"},"events":1,"events":[]}'
    )
    assert (await server.track(body)).json()["session"] == {"id": "b"}


@pytest.mark.requirement("004-28")
async def test_how_much_of_the_profile_is_answered(server: Server) -> None:
    async def shown(source: str, **headers: str) -> Any:
        body = body_of("purchase-order", source=source, session=source, options={"profile": True})
        return (await server.track(body, headers=headers)).json()["profile"]

    assert set(await shown("web")) == {"id", "segments", "traits"}
    assert (await shown("traits"))["traits"] == {"name": "Ada"}
    whole = await shown("chatty")
    assert whole["traits"] == {"name": "Ada", "product": "Nike shoes"}
    assert whole["segments"] == ["vip"]
    assert "stats" in await shown("backend", authorization=f"Bearer {SECRET}")


@pytest.mark.requirement("004-51")
async def test_consent_is_that_of_the_source(server: Server) -> None:
    assert (await server.track(body_of("x", source="chatty"))).json()["source"] == {"consent": True}


@pytest.mark.requirement("004-27")
@pytest.mark.requirement("004-31")
@pytest.mark.requirement("004-32")
@pytest.mark.requirement("004-33")
@pytest.mark.requirement("004-34")
@pytest.mark.requirement("004-35")
async def test_the_debugger_says_what_happened(server: Server) -> None:
    body = body_of("purchase-order", "page-view", source="chatty", options={"debugger": True})
    told = (await server.track(body)).json()["debugging"]
    for part in ("session", "events", "profile"):
        assert set(told[part]) >= {"saved", "errors", "ids", "types"}
        assert told[part]["saved"] == len(told[part]["ids"])
    assert told["events"]["saved"] == 2
    assert told["events"]["types"] == ["purchase-order", "page-view"]
    assert told["execution"]["purchase-order"][0]["path"][0] == "keep"
    assert told["segmentation"] == {"errors": [], "ids": ["vip"]}
    assert told["logs"] == []


@pytest.mark.requirement("004-36")
async def test_events_that_are_not_saved(server: Server) -> None:
    options = {"debugger": True, "saveEvents": False}
    told = (await server.track(body_of("page-view", source="chatty", options=options))).json()["debugging"]
    assert (told["events"]["saved"], told["session"]["saved"], told["profile"]["saved"]) == (0, 1, 1)


async def test_a_refused_debugger_is_said_in_a_header(server: Server) -> None:
    body = body_of("page-view", options={"debugger": True})
    answer = await server.track(body)
    assert (answer.status_code, answer.headers["x-debugger"]) == (200, "refused")
    assert "debugging" not in answer.json()
    asked = await server.track(body, headers={"authorization": f"Bearer {ADMIN}"})
    assert "debugging" in asked.json()
    assert "x-debugger" not in asked.headers


async def test_a_refused_event_is_named_and_kept_among_the_failed(server: Server) -> None:
    body = body_of("page-view") | {
        "events": [{"type": "order", "id": "o1", "properties": {}}, {"type": "page-view"}]
    }
    answer = await server.track(body)
    assert answer.status_code == 200
    (error,) = answer.json()["errors"]
    assert error["event"] == "o1"
    assert error["code"]
    assert error["message"]
    assert len((await server.read("/api/failed")).json()["items"]) == 1


@pytest.mark.requirement("004-29")
async def test_a_session_that_is_not_saved_is_not_found(server: Server) -> None:
    await server.track(body_of("page-view", options={"saveSession": False}))
    assert (await server.read("/api/sessions/s1")).status_code == 404


@pytest.mark.requirement("004-30")
async def test_one_event_may_be_left_unsaved(server: Server) -> None:
    body = body_of() | {"events": [{"type": "a", "options": {"save": False}}, {"type": "b"}]}
    await server.track(body)
    assert [event["type"] for event in (await server.read("/api/events")).json()["items"]] == ["b"]


@pytest.mark.parametrize("word", ["true", "1", "True"])
@pytest.mark.requirement("004-41")
@pytest.mark.requirement("004-42")
async def test_profile_less_makes_a_session_and_no_profile(server: Server, word: str) -> None:
    answer = await server.client.post(f"/track?profile_less={word}", json=body_of("page-view"))
    assert answer.status_code == 200
    assert "profile" not in answer.json()
    assert (await server.read("/api/sessions/s1")).status_code == 200
    assert (await server.read("/api/profiles")).json()["items"] == []


@pytest.mark.requirement("004-44")
async def test_a_profile_less_event_meets_an_empty_profile(server: Server) -> None:
    answer = await server.client.post("/track?profile_less=true", json=body_of("coupon-received"))
    told = answer.json()
    assert told["response"] == {"empty": True}
    assert UUID(told["profile"]["id"]).version == 4


@pytest.mark.parametrize(
    ("word", "status"), [("false", 200), ("0", 200), ("yes", 422), ("2", 422), ("true&profile_less=1", 422)]
)
async def test_profile_less_with_other_values(server: Server, word: str, status: int) -> None:
    answer = await server.client.post(f"/track?profile_less={word}", json=body_of("page-view"))
    assert answer.status_code == status


async def test_a_resend_counts_once(server: Server) -> None:
    body = body_of() | {"events": [{"type": "a", "id": "e1"}]}
    first = (await server.track(body)).json()
    assert (await server.track(body)).json() == first
    for header in ("idempotency-key", "webhook-id"):
        for _ in range(2):
            await server.track(body_of("b"), headers={header: f"key-{header}"})
    assert len((await server.read("/api/events")).json()["items"]) == 3
    bad = await server.track(body_of("b"), headers={"idempotency-key": "x" * 300})
    assert (bad.status_code, bad.json()["code"]) == (422, "bad_idempotency_key")


@pytest.mark.parametrize("header", ["dnt", "sec-gpc"])
async def test_do_not_track_keeps_nothing(server: Server, header: str) -> None:
    answer = await server.track(body_of("page-view"), headers={header: "1"})
    assert (answer.status_code, answer.json()["not_kept"]) == (200, "dnt")
    assert (await server.read("/api/sessions/s1")).status_code == 404
    assert "profile" in (await server.track(body_of("x", source="frank"), headers={header: "1"})).json()


async def test_origin_and_door_are_the_sources_to_restrict(server: Server) -> None:
    body = body_of("page-view", source="shop-site")
    good = await server.track(body, headers={"origin": "https://shop.example"})
    assert good.status_code == 200
    bad = await server.track(body, headers={"origin": "https://evil.example"})
    assert (bad.status_code, bad.json()["code"]) == (403, "origin_not_allowed")
    assert bad.headers["access-control-allow-origin"] == "https://evil.example"
    assert (await server.track(body_of("x", source="collect-only"))).status_code == 403


async def test_a_rate_limit_says_when_to_go_on(server: Server) -> None:
    answers = [await server.track(body_of("x", source="slow")) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 60


@pytest.mark.parametrize(
    ("proxies", "client", "forwarded", "address"),
    [
        ((), "192.0.2.7", "203.0.113.9", "192.0.2.7"),
        (("192.0.2.0/24",), "192.0.2.7", "203.0.113.9", "203.0.113.9"),
        (("192.0.2.0/24",), "192.0.2.7", "198.51.100.1, 203.0.113.9, 192.0.2.8", "203.0.113.9"),
        (("192.0.2.0/24",), "192.0.2.7", "nonsense", "192.0.2.7"),
        (("192.0.2.0/24",), "192.0.2.7", "[2001:db8::1]:443", "2001:db8::1"),
        (("192.0.2.0/24",), "198.18.0.1", "203.0.113.9", "198.18.0.1"),
        (("192.0.2.0/24",), "192.0.2.7", "198.51.100.1|203.0.113.9|192.0.2.8", "203.0.113.9"),
        (("192.0.2.0/24",), "192.0.2.7", "198.51.100.1, 203.0.113.9|192.0.2.8", "203.0.113.9"),
    ],
)
async def test_the_clients_address(
    open_server: Opens,
    monkeypatch: pytest.MonkeyPatch,
    proxies: tuple[str, ...],
    client: str,
    forwarded: str,
    address: str,
) -> None:
    seen: list[str | None] = []
    async with open_server(client=client, trusted_proxies=proxies) as server:
        track = server.engine.track

        async def spy(request: Any) -> Any:
            seen.append(request.caller.ip)
            return await track(request)

        monkeypatch.setattr(server.engine, "track", spy)
        await server.track(body_of("x"), headers=[("x-forwarded-for", line) for line in forwarded.split("|")])
    assert seen == [address]


async def test_tracardis_times_are_read(server: Server) -> None:
    body = body_of() | {"events": [{"type": "a", "time": {"insert": "2026-01-15T12:00:00.000Z"}}]}
    assert (await server.track(body)).status_code == 200


NAMES = st.sampled_from(["", " ", "a", " b ", "x" * 257, "c\x01", "é", "\u00a0x"])
ANY_ID = st.none() | NAMES | st.integers(0, 3)
OBJECTS: st.SearchStrategy[Any] = st.sampled_from([None, {}, {"a": 1}, []])
FLAGS = st.sampled_from([True, False, None, 1, "x"])
EVENTS = st.fixed_dictionaries(
    {"type": NAMES | st.none()},
    optional={
        "id": ANY_ID,
        "properties": OBJECTS,
        "context": OBJECTS,
        "time": st.sampled_from([None, "", "2026-01-01", 5, {"create": "2026-01-01"}]),
        "options": st.none() | st.fixed_dictionaries({}, optional={"save": FLAGS}),
        "more": OBJECTS,
    },
)
WITH_ID = st.none() | st.just("x") | st.fixed_dictionaries({}, optional={"id": ANY_ID})
BODIES = st.fixed_dictionaries(
    {"source": WITH_ID, "session": WITH_ID, "events": st.lists(EVENTS, max_size=4) | st.none()},
    optional={
        "profile": WITH_ID,
        "context": OBJECTS,
        "properties": OBJECTS,
        "sentAt": st.sampled_from([None, "", "x", 1]),
        "options": st.fixed_dictionaries(
            {}, optional={"debugger": FLAGS, "saveEvents": FLAGS, "profile": FLAGS}
        ),
    },
)


@given(BODIES)
def test_the_short_way_gives_what_the_long_way_gives(body: dict[str, Any]) -> None:
    try:
        short = _plain(_decode(json.dumps(body).encode()), 3)
    except ValueError:
        return
    if short is None:
        return
    try:
        long = read_track(body, 3)
    except InputError as error:
        raise AssertionError(error.fields) from None
    long.received = short.received
    assert short == long


async def test_numbers_that_take_long_to_read_do_not_stop_the_server(server: Server) -> None:
    many = b'{"a":[' + b"1e300," * 170_000 + b"1]}"
    unknown = b'{"source":{"id":"none"},"session":{"id":"s"},"events":[],"context":' + many + b"}"
    with timed() as took:
        assert (await server.track(unknown)).status_code == 401
        answer = await server.client.post("/collect/x/none", content=many)
        assert answer.status_code == 401
    assert took.seconds < 1.0
