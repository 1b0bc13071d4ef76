"""HTTP/1.1 on a real connection: other protocols are not spoken, and no body is lost or read as a request."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from headrace.api.protocol import BoundedHttp

Talks = Callable[..., Awaitable[list[tuple[int, dict[str, str], Any]]]]

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nhost: x\r\n\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with what was asked."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    names = [name.decode() for name, _ in scope["headers"]]
    told = {"method": scope["method"], "path": scope["path"], "body": body.decode(), "headers": names}
    data = json.dumps(told).encode()
    headers = [(b"content-length", b"%d" % len(data))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": data})


def answers(told: bytes) -> list[tuple[int, dict[str, str], Any]]:
    """Return status, headers and body of each answer."""
    found = []
    while told:
        head, _, told = told.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        size = int(headers["content-length"])
        found.append((int(first.split()[1]), headers, json.loads(told[:size])))
        told = told[size:]
    return found


@pytest.fixture
async def talk() -> AsyncIterator[Talks]:
    """Return what sends packets, one after the other, and gives the answers."""
    config = uvicorn.Config(app, ws="none", lifespan="off", interface="asgi3", log_config=None)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: BoundedHttp(config, state, {}), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def talked(*packets: bytes, quiet: float = 0.1) -> list[tuple[int, dict[str, str], Any]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        told = b""
        for packet in packets:
            with suppress(OSError):
                writer.write(packet)
                await writer.drain()
            await asyncio.sleep(0.02)
        with suppress(TimeoutError, OSError):
            while data := await asyncio.wait_for(reader.read(65536), quiet):
                told += data
        writer.close()
        return answers(told)

    yield talked
    server.close()
    await server.wait_closed()


def post(body: bytes, *headers: bytes) -> bytes:
    """Return a request with a body."""
    lines = b"".join(line + b"\r\n" for line in headers)
    return b"POST /first HTTP/1.1\r\nhost: x\r\n%scontent-length: %d\r\n\r\n%s" % (lines, len(body), body)


ASKING: Sequence[Sequence[bytes]] = (
    (b"connection: Upgrade", b"upgrade: anything"),
    (b"Upgrade: anything", b"Connection: keep-alive, upgrade"),
    (b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AAMAAABkAAQ"),
    (b"connection: Upgrade", b"upgrade: websocket", b"sec-websocket-key: x", b"sec-websocket-version: 13"),
    (b"connection: Upgrade", b"upgrade: h2c", b"upgrade: websocket"),
)


@pytest.mark.parametrize("asking", ASKING)
async def test_one_who_asks_for_another_protocol_is_answered_in_this_one(
    talk: Talks, asking: Sequence[bytes]
) -> None:
    request = post(SMUGGLED, *asking)
    head = len(request) - len(SMUGGLED)
    for packets in (
        [request + NEXT],
        [request[:head], SMUGGLED + NEXT],
        [request, NEXT],
        [request[:9], request[9:]],
    ):
        found = await talk(*packets)
        assert [status for status, _, _ in found] == [200] * (2 if packets[-1].endswith(NEXT) else 1)
        said = found[0][2]
        assert (said["method"], said["path"], said["body"]) == ("POST", "/first", SMUGGLED.decode())
        assert "upgrade" not in said["headers"]
        assert {"host", "connection", "content-length"} <= set(said["headers"])
        assert [body["path"] for _, _, body in found[1:]] in ([], ["/next"])


async def test_at_every_split(talk: Talks) -> None:
    request = post(b"GET / HTTP/1.1\r\n\r\n", b"connection: Upgrade", b"upgrade: h2c") + NEXT
    found = await asyncio.gather(
        *(talk(request[:at], request[at:], quiet=1) for at in range(1, len(request))),
        talk(*(request[at : at + 1] for at in range(len(request))), quiet=1),
    )
    assert all([body["path"] for _, _, body in each] == ["/first", "/next"] for each in found)
    assert all(each[0][2]["body"] == "GET / HTTP/1.1\r\n\r\n" for each in found)


async def test_chunks_and_many_in_a_row(talk: Talks) -> None:
    chunked = b"POST /c HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\ntransfer-encoding: chunked\r\n\r\n"
    found = await talk((chunked + b"5\r\nhello\r\n0\r\n\r\n") * 5 + NEXT)
    assert [body["body"] for _, _, body in found] == ["hello"] * 5 + [""]
    both = b"POST /c HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\ntransfer-encoding: chunked\r\n"
    assert [status for status, _, _ in await talk(both + b"content-length: 4\r\n\r\n0\r\n\r\n")] == [400]


async def test_connect_is_refused_and_what_follows_is_dropped(talk: Talks) -> None:
    connect = b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n"
    for packets in ([connect + NEXT], [connect, NEXT], [connect[:10], connect[10:] + NEXT]):
        ((status, headers, body),) = await talk(*packets)
        assert (status, body["code"]) == (400, "no_tunnel")
        assert headers["connection"] == "close"


@pytest.mark.parametrize(
    "garbage",
    [
        b"GARBAGE",
        b"}",
        b" \n}",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
)
async def test_a_whole_request_is_answered_whatever_follows_it(
    talk: Talks, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    for whole in (1, 2, 5):
        found = await talk(post(b"kept") * whole + garbage + b"y" * 200_000, NEXT, quiet=10)
        assert [status for status, _, _ in found] == [200] * whole
        assert {body["body"] for _, _, body in found} == {"kept"}
        assert [headers.get("connection") for _, headers, _ in found] == [None] * (whole - 1) + ["close"]
    assert "Exception" not in caplog.text


async def test_a_request_that_breaks_off_is_refused_after_those_before_it(talk: Talks) -> None:
    broken = b"POST /c HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n"
    for whole in (0, 1, 3):
        found = await talk(post(b"kept") * whole + broken + NEXT, quiet=10)
        assert [status for status, _, _ in found] == [200] * whole + [400]
        assert [body["body"] for _, _, body in found[:-1]] == ["kept"] * whole
        assert (found[-1][2]["code"], found[-1][1]["connection"]) == ("bad_http", "close")


async def test_trailers_are_no_headers(talk: Talks) -> None:
    head = b"POST /c HTTP/1.1\r\nx-good: 1\r\ntransfer-encoding: chunked\r\n\r\n"
    found = await talk(head + b"5\r\nhello\r\n0\r\nx-forwarded-for: 6.6.6.6\r\n\r\n" + NEXT)
    assert [body["body"] for _, _, body in found] == ["hello", ""]
    assert found[0][2]["headers"] == ["x-good", "transfer-encoding"]
    assert found[1][2]["headers"] == ["host"]


async def test_trailers_and_blank_lines_without_end_are_cut_off(talk: Talks) -> None:
    head = b"POST /c HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"
    for endless in ([b"x: " + b"y" * 40_000, *[b"y" * 40_000] * 3], [b"x: y\r\n" * 8_000] * 4):
        assert await talk(head, *endless, b"\r\n\r\n", NEXT) == []
    assert await talk(*[b"\r\n" * 20_000] * 4, NEXT) == []
    large = [b"8000\r\n" + b"z" * 0x8000 + b"\r\n"] * 20
    ((status, _, body), _) = await talk(head[: head.index(b"5")], *large, b"0\r\nx: y\r\n\r\n", NEXT)
    assert (status, len(body["body"])) == (200, 20 * 0x8000)


async def test_refusals_below_the_app_have_a_request_id(talk: Talks) -> None:
    ((status, headers, _),) = await talk(b"nonsense\r\n\r\n")
    assert status == 400
    assert len(headers["x-request-id"]) > 20
    ((status, headers, _),) = await talk(b"GET / HTTP/1.1\r\nx: ", b"y" * 70_000, quiet=0.5)
    assert status == 431
    assert headers["x-request-id"]


async def test_a_head_without_an_end_may_come_in_one_packet(talk: Talks) -> None:
    endless = b"x: " + b"y" * 70_000
    ((status, _, _),) = await talk(b"GET / HTTP/1.1\r\n" + endless, quiet=0.5)
    assert status == 431
    # Also after others on the same connection; what came with their bodies does not count.
    (first, second, third) = await talk(post(b"a" * 60_000), NEXT + b"GET / HTTP/1.1\r\n", endless, quiet=0.5)
    assert (first[0], second[0], third[0]) == (200, 200, 431)
    assert [one[0] for one in await talk(post(b"a" * 200_000) + NEXT + NEXT, quiet=0.5)] == [200] * 3


async def test_a_refusal_reaches_who_goes_on_sending(talk: Talks) -> None:
    more = [b"x-%d: %s\r\n" % (number, b"y" * 60_000) for number in range(40)]
    ((status, _, _),) = await talk(b"GET / HTTP/1.1\r\n", *more)
    assert status == 431
    ((status, _, _),) = await talk(b"nonsense\r\n\r\n", *more)
    assert status == 400
