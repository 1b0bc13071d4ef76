"""Broken, slow and hostile connections against a real server."""

import asyncio
import json
import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress

import pytest

from tests.live.checks import REFUSALS, kept
from tests.live.conftest import MOST_MIB, Starts, in_flight
from tests.live.server import TOKEN, Server, track_body

HEAD = b"POST /track HTTP/1.1\r\nhost: x\r\n"
MIB = 1 << 20


def body_of(session: str, *types: str) -> bytes:
    """Return a good body."""
    return json.dumps(track_body(*(types or ("x",)), session=session)).encode()


def post_of(body: bytes, *headers: bytes) -> bytes:
    """Return a good request."""
    lines = b"".join(line + b"\r\n" for line in headers)
    return b"%scontent-length: %d\r\n%s\r\n%s" % (HEAD, len(body), lines, body)


@contextmanager
def connected(server: Server, seconds: float = 10) -> Iterator[socket.socket]:
    """Open a connection."""
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=seconds)) as connection:
        yield connection


def rest(connection: socket.socket) -> bytes:
    """Return everything that comes until the server hangs up, or says no more for a while."""
    told = b""
    with suppress(OSError):
        while data := connection.recv(65536):
            told += data
    return told


def talk(server: Server, *parts: bytes, quiet_seconds: float = 0.4) -> bytes:
    """Send bytes as they are; return what came back until the server hung up or was quiet for a while."""
    with connected(server) as connection:
        with suppress(OSError):
            for part in parts:
                connection.sendall(part)
        connection.settimeout(quiet_seconds)
        return rest(connection)


def statuses(told: bytes) -> list[int]:
    """Return the statuses of the answers in what came back."""
    parts = told.split(b"HTTP/1.1 ")
    assert parts[0] == b"", told[:200]
    return [int(part[:3]) for part in parts[1:]]


GARBAGE: tuple[bytes, ...] = (
    *(b"\r\n\r\n", b"\n\n", b"\0\0\0\0\r\n\r\n", b"GET\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"),
    *(
        b"/track\r\n\r\n",
        b"POST  /track HTTP/1.1\r\n\r\n",
        b"post /track HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x80\x9e\x01\x03\x01",
    ),
    *(
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"{}",
        b"\xff" * 70_000,
    ),
    *(
        b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nx\0y: 1\r\n\r\n",
    ),
    *(
        b"GET /healthz HTTP/1.1\r\nx : 1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n: 1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nnocolon\r\n\r\n",
    ),
    *(
        b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"TRACE / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"BREW /track HTTP/1.1\r\nhost: x\r\n\r\n",
    ),
    *(
        b"GET http://x/track HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\n\r\n",
    ),
    *(
        HEAD + b"content-length: -1\r\n\r\n",
        HEAD + b'content-length: +5\r\n\r\n{"a":',
        HEAD + b"content-length: 5x\r\n\r\n",
    ),
    *(
        HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\n{}",
        HEAD + b"content-length: 9" + b"9" * 30 + b"\r\n\r\n{}",
    ),
    *(
        HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n-1\r\n\r\n",
    ),
    *(
        HEAD + b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n\r\n",
        HEAD + b"transfer-encoding: gzip\r\n\r\n",
    ),
    *(
        HEAD + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: xchunked\r\n\r\n{}",
    ),
    *(
        HEAD + b"upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-key: x\r\n\r\n",
        HEAD + b"upgrade: h2c\r\nconnection: upgrade\r\n\r\n",
    ),
    *(
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        HEAD + b"x: " + b"y" * 70_000 + b"\r\n\r\n",
    ),
    *(
        HEAD + b"x: y\r\n" * 10_000 + b"\r\n",
        HEAD + b"expect: 100-continue\r\n\r\n",
        HEAD + b"expect: other\r\n\r\n",
    ),
)


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_what_is_no_request_is_refused_or_cut_off(unharmed: Server, garbage: bytes) -> None:
    before = kept(unharmed)
    found = [status for status in statuses(talk(unharmed, garbage)) if status != 100]
    assert all(status in REFUSALS or status == 200 for status in found), found
    assert kept(unharmed) == before


def changed(dice: random.Random, good: bytes) -> bytes:
    """Return a request with some bytes changed, or nothing but noise."""
    data = bytearray(good if dice.random() < 0.7 else dice.randbytes(dice.randrange(200)))
    for _ in range(dice.randrange(1, 6)):
        at = dice.randrange(len(data) + 1)
        data[at : at + dice.randrange(4)] = dice.choice(
            (b"\r\n", b"\0", b":", b" ", b"\xff", b"0", b"chunked")
        )
    return bytes(data)


def test_random_bytes(unharmed: Server) -> None:
    dice, before = random.Random(11), kept(unharmed)
    sent = [changed(dice, post_of(b'{"source": 1}')) for _ in range(400)]
    with ThreadPoolExecutor(40) as pool:
        for data, told in zip(sent, pool.map(lambda data: talk(unharmed, data), sent), strict=True):
            assert all(status in REFUSALS for status in statuses(told)), (told, data)
    assert kept(unharmed) == before


def test_a_body_that_ends_early_keeps_nothing(unharmed: Server) -> None:
    before, body = kept(unharmed), body_of("early")
    whole = post_of(body)
    for cut in (len(whole) - 1, len(whole) - len(body) // 2, len(whole) - len(body)):
        with connected(unharmed) as connection:
            connection.sendall(whole[:cut])
            connection.shutdown(socket.SHUT_WR)
            assert set(statuses(rest(connection))) <= {400}
        with connected(unharmed) as connection:
            connection.sendall(whole[:cut])
            # Not an end but a break: the other side is told by a reset.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    chunked = HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(body), body)
    assert statuses(talk(unharmed, chunked, quiet_seconds=3)) == [408]
    assert kept(unharmed) == before


def test_one_who_does_not_wait_for_the_answer(unharmed: Server) -> None:
    before = kept(unharmed)["events"]
    for number in range(20):
        with connected(unharmed) as connection:
            connection.sendall(post_of(body_of(f"gone-{number}")))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    # Each may have been taken or not, but never more than once.
    unharmed.post(body_of("gone"))
    assert before < kept(unharmed)["events"] <= before + 21


def test_a_slow_body_is_408(unharmed: Server) -> None:
    before, body = kept(unharmed), body_of("slow")
    with connected(unharmed) as connection:
        connection.sendall(post_of(body)[: -len(body)])
        began = time.monotonic()
        with suppress(OSError):
            for byte in body:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
        told = rest(connection)
    assert statuses(told) == [408]
    assert b"connection: close" in told.lower()
    assert time.monotonic() - began < 15
    assert kept(unharmed) == before


def test_many_slow_connections_hold_up_nobody(unharmed: Server) -> None:
    slow = [socket.create_connection(("127.0.0.1", unharmed.port)) for _ in range(300)]
    try:
        for number, connection in enumerate(slow):
            connection.sendall((b"", b"P", HEAD, HEAD + b"content-length: 900000\r\n\r\n{")[number % 4])
        began = time.monotonic()
        for _ in range(20):
            assert unharmed.post(body_of("quick"))[0] == 200
        assert time.monotonic() - began < 15
    finally:
        for connection in slow:
            connection.close()


def test_requests_in_a_row_are_answered_in_their_order(unharmed: Server) -> None:
    sessions = [f"row-{n}" for n in range(20)]
    requests = [post_of(body_of(session)) for session in sessions]
    requests.insert(7, post_of(b"{"))
    requests.insert(12, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    told = talk(unharmed, b"".join(requests))
    assert statuses(told) == [200] * 7 + [400] + [200] * 14
    found = [told.find(f'"session":{{"id":"{session}"}}'.encode()) for session in sessions]
    assert found == sorted(found)
    assert -1 not in found


def test_what_follows_a_kept_event_does_not_refuse_it(unharmed: Server) -> None:
    before = kept(unharmed)
    for number, garbage in enumerate((b"GARBAGE", b"}", b"\r\n}" * 30_000)):
        both = post_of(body_of(f"first-{number}")) + post_of(body_of(f"second-{number}"))
        assert statuses(talk(unharmed, both + garbage, quiet_seconds=20)) == [200, 200]
    short = body_of("short") + b" \n"
    told = talk(unharmed, HEAD + b"content-length: %d\r\n\r\n%s}" % (len(short), short), quiet_seconds=20)
    assert statuses(told) == [200]
    assert kept(unharmed)["events"] == before["events"] + 7


def test_what_follows_a_refused_body_is_not_read_as_a_request(unharmed: Server) -> None:
    before = kept(unharmed)
    inner = post_of(body_of("smuggled"))
    too_large = HEAD + b"content-length: %d\r\n\r\n" % (2 * MIB)
    told = talk(unharmed, too_large, inner + b" " * (2 * MIB - len(inner)))
    assert statuses(told) == [413]
    told = talk(unharmed, HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n" % (2 * MIB) + inner, b" " * MIB)
    assert statuses(told) == [413]
    # Shorter than it says: what comes after it is the body's end, not a request.
    told = talk(unharmed, HEAD + b"content-length: 2\r\n\r\n{" + inner)
    assert statuses(told)[0] in (400, 422)
    assert set(statuses(told)[1:]) <= {400}
    assert kept(unharmed) == before


def test_chunks_without_a_length_end_at_the_limit(unharmed: Server) -> None:
    before = kept(unharmed)
    for size in (1, 1000, 65536):
        chunk = b"%x\r\n%s\r\n" % (size, b" " * size)
        told = talk(unharmed, HEAD + b"transfer-encoding: chunked\r\n\r\n", *[chunk * (65536 // size)] * 40)
        # Who is hung up on while sending may be told by a reset, with the answer lost. To read a million chunks may
        # take longer than a body has.
        assert statuses(told) in ([413], [], [408] if size == 1 else [])
    body = body_of("chunks")
    small = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    assert kept(unharmed) == before
    assert statuses(talk(unharmed, HEAD + b"transfer-encoding: chunked\r\n\r\n" + small + b"0\r\n\r\n")) == [
        200
    ]
    assert kept(unharmed)["events"] == before["events"] + 1


def test_http_1_0(unharmed: Server) -> None:
    body = body_of("old")
    old = b"POST /track HTTP/1.0\r\ncontent-length: %d\r\n%s\r\n%s"
    with connected(unharmed) as connection:
        connection.sendall(old % (len(body), b"", body))
        told = rest(connection)
    assert statuses(told) == [200]
    told = talk(
        unharmed, old % (len(body), b"connection: keep-alive\r\n", body), old % (len(body), b"", body)
    )
    assert statuses(told)[0] == 200


def test_an_answer_without_a_length_ends_with_the_connection_for_http_1_0(unharmed: Server) -> None:
    status, answer = unharmed.post(body_of("exported", *["x"] * 100))
    assert status == 200
    asked = b"%s /api/profiles/%s/export HTTP/1.0\r\nauthorization: Bearer %s\r\n\r\n"
    for method in (b"GET", b"HEAD"):
        with connected(unharmed) as connection:
            connection.sendall(asked % (method, answer["profile"]["id"].encode(), TOKEN.encode()))
            told = rest(connection)
        head, _, body = told.partition(b"\r\n\r\n")
        assert statuses(told) == [200]
        assert b"transfer-encoding" not in head
        assert b"connection: close" in head
        kinds = [json.loads(line)["kind"] for line in body.splitlines()]
        assert kinds.count("profile") == (method == b"GET")
    with connected(unharmed) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert rest(connection).endswith(b'\r\n\r\n{"status":"ok"}')


def test_bytes_one_by_one(unharmed: Server) -> None:
    with connected(unharmed) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post_of(body_of("bytes"), b"connection: close"):
            connection.sendall(bytes([byte]))
        assert statuses(rest(connection)) == [200]


def test_expect_continue(unharmed: Server) -> None:
    body = body_of("expect")
    with connected(unharmed) as connection:
        connection.sendall(post_of(body, b"expect: 100-continue", b"connection: close")[: -len(body)])
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert statuses(rest(connection)) == [200]


async def hold(server: Server, size: int, seconds: float) -> int:
    """Send all of a large body but its end, wait, send the end; returns the status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        body = body_of("held")
        body = b" " * (size - len(body)) + body
        writer.write(HEAD + b"content-length: %d\r\n\r\n" % size + body[:-1])
        with suppress(OSError):
            await writer.drain()
            await asyncio.sleep(seconds)
            writer.write(body[-1:])
            await writer.drain()
        answer = await reader.readuntil(b"\r\n\r\n")
        if answer[9:12] == b"503":
            assert b"retry-after: " in answer.lower()
        return int(answer[9:12])
    finally:
        writer.close()


async def test_what_is_held_at_once_is_bounded(start: Starts) -> None:
    server = start(HEADRACE_MAX_BYTES_IN_FLIGHT=str(16 * MIB), HEADRACE_MAX_REQUESTS_IN_FLIGHT="60")
    async with asyncio.timeout(30):
        found = await asyncio.gather(*(hold(server, MIB, 1.0) for _ in range(100)))
    assert set(found) == {200, 503}
    assert found.count(200) <= 16
    assert server.resident_mib() < MOST_MIB
    assert in_flight(server) == (0.0, 0.0)
    assert (await asyncio.gather(*(hold(server, 1000, 0.1) for _ in range(50)))) == [200] * 50
    assert kept(server)["events"] == found.count(200) + 50
    assert server.stop() == 0
