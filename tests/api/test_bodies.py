"""Bodies as clients send them: packing, names, limits, broken and slow ones."""

import asyncio
import json
import zlib
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import quote_plus

import pytest

from tests.api.conftest import Opens, Server, body_of
from tests.makers import zipped

PLAIN = json.dumps(body_of("page-view")).encode()


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json",
        "application/json; charset=UTF-8",
        "text/plain",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "application/cloudevents+json",
        "nonsense",
    ],
)
async def test_json_is_read_whatever_it_is_called(server: Server, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    assert (await server.track(PLAIN, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        quote_plus(PLAIN).encode(),
        b"data=" + quote_plus(PLAIN).encode(),
        b"payload=" + quote_plus(PLAIN).encode() + b"&sent=1",
    ],
)
async def test_json_inside_a_form_is_read(server: Server, body: bytes) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert (await server.track(body, headers=form)).status_code == 200
    assert (await server.track(body)).status_code == 400
    assert (await server.track(b"a=1&b=2", headers=form)).status_code == 400


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", zipped(PLAIN)),
        ("GZIP", zipped(PLAIN)),
        ("x-gzip", zipped(PLAIN)),
        ("gzip", zipped(PLAIN[:50]) + zipped(PLAIN[50:])),
        ("deflate", zlib.compress(PLAIN)),
        ("deflate", zlib.compress(PLAIN, wbits=-15)),
        ("identity", PLAIN),
    ],
)
async def test_packed_bodies_are_read(server: Server, encoding: str, body: bytes) -> None:
    assert (await server.track(body, headers={"content-encoding": encoding})).status_code == 200


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", PLAIN, 400),
        ("gzip", zipped(PLAIN)[:-9], 400),
        ("gzip", zipped(PLAIN) + b"tail", 400),
        ("deflate", b"\xff\xff\xff", 400),
        ("br", PLAIN, 415),
        ("gzip, deflate", PLAIN, 415),
        ("gzip", zipped(b" " * (1 << 20)), 400),
        ("gzip", zipped(b" " * ((1 << 20) + 1)), 413),
        ("gzip", zipped(zipped(b"\0" * (200 << 20))), 400),
        ("gzip", zipped(b"\0" * (50 << 20)), 413),
        ("deflate", zlib.compress(b"\0" * (50 << 20)), 413),
        ("gzip", zipped(b"") * 20, 400),
    ],
)
async def test_badly_packed_bodies_and_bombs(server: Server, encoding: str, body: bytes, status: int) -> None:
    answer = await server.track(body, headers={"content-encoding": encoding})
    assert answer.status_code == status, answer.text
    assert server.gate.bytes == server.gate.requests == 0


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[NaN]", b'{"a":Infinity}', b'"\\ud800"', b"\xff", b"{'a':1}", b"[" * 70 + b"]" * 70],
)
async def test_what_is_not_strict_json_is_400(server: Server, body: bytes) -> None:
    answer = await server.track(body)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_json")


@pytest.mark.parametrize("value", [b"NaN", b'"\\ud800"', b'"\xff"', b'"\xed\xa0\x80"', b"[" * 70 + b"]" * 70])
@pytest.mark.parametrize("place", [b'"zzz":%s,', b'"context":{"a":%s},'])
async def test_strictness_holds_everywhere(server: Server, place: bytes, value: bytes) -> None:
    body = b"{" + place % value + PLAIN[1:]
    answer = await server.track(body)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_json")


async def test_a_body_may_be_as_large_as_the_limit(server: Server) -> None:
    room = (1 << 20) - len(PLAIN)
    assert (await server.track(PLAIN + b" " * room)).status_code == 200
    answer = await server.track(PLAIN + b" " * (room + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


async def test_a_body_without_a_length_is_limited_as_well(server: Server) -> None:
    answer = await drive(server, [b" " * 65536] * 40)
    assert answer["status"] == 413
    assert answer["headers"][b"connection"] == b"close"


async def drive(
    server: Server, parts: list[bytes], *, then: str = "end", pause: float = 0, path: str = "/track"
) -> dict[str, Any]:
    """Speak ASGI to the app by hand; returns status and headers, or nothing when there was no answer."""
    waiting = list(parts)
    told: dict[str, Any] = {}

    async def receive() -> MutableMapping[str, Any]:
        if waiting:
            part = waiting.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(waiting) or then != "end"}
        if then == "gone":
            return {"type": "http.disconnect"}
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": b"", "more_body": then == "dribble"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            told.update(status=message["status"], headers=dict(message["headers"]))

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"authorization", b"Bearer admin-token")] if path.startswith("/api/") else [],
        "client": ("192.0.2.1", 1),
    }
    await server.app(scope, receive, send)
    return told


async def test_a_slow_body_ends_in_408(open_server: Opens) -> None:
    async with open_server(body_timeout_seconds=0.1) as server:
        told = await drive(server, [PLAIN[:20]], then="dribble", pause=0.03)
        assert told["status"] == 408
        assert told["headers"][b"connection"] == b"close"
        assert server.gate.requests == server.gate.bytes == 0
        assert (await drive(server, [PLAIN[:20], PLAIN[20:]]))["status"] == 200
        # Who interrupts for another reason is heard.
        task = asyncio.create_task(drive(server, [PLAIN[:20]], then="dribble", pause=0.03))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert server.gate.requests == 0


async def test_a_client_that_is_gone_is_not_answered(server: Server) -> None:
    assert await drive(server, [PLAIN[:20]], then="gone") == {}
    assert await drive(server, [], then="gone") == {}
    assert server.gate.requests == server.gate.bytes == 0
    assert server.engine.metrics.requests["track", "499"] == 2


async def a_failed_event(server: Server) -> str:
    """Send an event that is refused; returns its path."""
    await server.track(body_of("order") | {"events": [{"type": "order", "properties": {"total": "much"}}]})
    (failed,) = (await server.read("/api/failed")).json()["items"]
    return f"/api/failed/{failed['id']}"


async def test_a_body_of_the_api_has_the_limits_of_a_door(
    open_server: Opens, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_server(body_timeout_seconds=0.1) as server:
        for path in ("/api/profiles/x/merge", await a_failed_event(server) + "/resend"):
            told = await drive(server, [b"{"], then="dribble", pause=0.03, path=path)
            assert (told["status"], told["headers"][b"connection"]) == (408, b"close")
            for parts in ([b"{"], []):
                told = await drive(server, parts, then="gone", path=path)
                assert told["status"] == 499
            told = await drive(server, [b"{", b" " * 2_000_000], path=path)
            assert (told["status"], told["headers"][b"connection"]) == (413, b"close")
            assert server.gate.requests == server.gate.bytes == 0
        assert server.engine.metrics.requests["api", "499"] == 4
        assert server.engine.metrics.requests["api", "500"] == 0
        assert "fault" not in caplog.text
        packed = zipped(json.dumps({"with": "y"}).encode())
        headers = {"authorization": "Bearer admin-token", "content-encoding": "gzip"}
        answer = await server.client.post("/api/profiles/x/merge", content=packed, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "no_profile")
        server.gate.closed = True
        told = await drive(server, [b"{}"], path="/api/profiles/x/merge")
        assert told["status"] == 503


async def test_requests_in_flight_are_bounded(open_server: Opens) -> None:
    async with open_server(max_requests_in_flight=1) as server:
        slow = asyncio.create_task(drive(server, [PLAIN[:20]], then="dribble", pause=0.05))
        await asyncio.sleep(0.01)
        answer = await server.track(PLAIN, headers={"origin": "https://a.example"})
        assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (
            503,
            "busy",
            "1",
        )
        assert "Nothing was kept" in answer.json()["detail"]
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        assert (await server.track(PLAIN)).status_code == 200


async def test_bytes_in_flight_are_bounded(open_server: Opens) -> None:
    async with open_server(max_bytes_in_flight=1000) as server:
        assert (await server.track(PLAIN)).status_code == 200
        assert (await server.track(PLAIN + b" " * 1000)).status_code == 503
        packed = zipped(PLAIN + b" " * 1000)
        assert (await server.track(packed, headers={"content-encoding": "gzip"})).status_code == 503
        assert server.gate.bytes == 0


async def test_a_server_that_stops_takes_nothing_new(server: Server) -> None:
    server.gate.closed = True
    answer = await server.track(PLAIN)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert (await server.client.get("/readyz")).status_code == 503
    assert (await server.client.get("/healthz")).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "PROPFIND", "TRACE"])
async def test_other_methods_are_405(server: Server, method: str) -> None:
    answer = await server.client.request(method, "/track")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST, OPTIONS")


async def test_a_preflight(server: Server) -> None:
    headers = [
        (b"origin", b"https://shop.example"),
        (b"access-control-request-method", b"POST"),
        (b"access-control-request-headers", b"content-type, x-timestamp, x-odd\xe9"),
    ]
    answer = await server.client.options("/track", headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert answer.headers["access-control-allow-methods"] == "POST, OPTIONS"
    assert answer.headers["access-control-allow-headers"].startswith("content-type, x-timestamp")
    assert int(answer.headers["access-control-max-age"]) > 0
    assert "origin" in answer.headers["vary"]


async def test_answers_name_the_origin_and_never_a_star(server: Server) -> None:
    for body in (PLAIN, b"{", b"{}"):
        answer = await server.track(body, headers={"origin": "https://shop.example"})
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert answer.headers["vary"] == "origin"
        assert answer.headers["x-request-id"]
    without = await server.track(PLAIN)
    assert "access-control-allow-origin" not in without.headers
    for origin in ("a b", "*"):
        odd = await server.track(PLAIN, headers={"origin": origin})
        assert "access-control-allow-origin" not in odd.headers


async def test_only_doors_have_cors(server: Server) -> None:
    for path in ("/api/events", "/healthz", "/openapi.json", "/nothing"):
        answer = await server.client.get(path, headers={"origin": "https://shop.example"})
        assert "access-control-allow-origin" not in answer.headers


async def test_trace_context_is_taken_over(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []
    track = server.engine.track

    async def spy(request: Any) -> Any:
        seen.append(request.trace_parent)
        return await track(request)

    monkeypatch.setattr(server.engine, "track", spy)
    good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for value in (good, "nonsense"):
        await server.track(PLAIN, headers={"traceparent": value})
    assert seen == [good, None]


async def test_a_fault_of_ours_says_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: Any) -> Any:
        raise RuntimeError("secret path /etc/x")

    monkeypatch.setattr(server.engine, "track", broken)
    answer = await server.track(PLAIN)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"]
