"""The client against real sockets: where it goes, what it takes, what it makes of lies."""

import asyncio
import socket
import ssl
import sys
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import run
from time import perf_counter, sleep
from typing import Any

import pytest

from headrace.engine.calls import resolver
from headrace.engine.calls.address import Rules
from headrace.engine.calls.client import Client, Reply
from headrace.engine.calls.resolver import Lookup
from headrace.engine.errors import CallError
from tests.calls.receiver import Got, Receiver, always, plain, receiving
from tests.makers import zipped

SECRETS = {"TOKEN": "t0p/secret+1"}


@asynccontextmanager
async def client(*allowed: str, lookup: Lookup | None = None, **limits: Any) -> AsyncIterator[Client]:
    made = Client(Rules(allowed), SECRETS.get, lookup=lookup, **limits)
    try:
        yield made
    finally:
        await made.close()


def looking_up(*answers: Sequence[str]) -> Lookup:
    """Return a look-up that gives these answers in turn, the last one for ever."""
    left = list(answers)

    async def look_up(host: str, port: int) -> list[str]:  # noqa: ARG001
        return list(left.pop(0) if len(left) > 1 else left[0])

    return look_up


async def refused(made: Client, url: str, **call: Any) -> CallError:
    with pytest.raises(CallError) as caught:
        await made.send({"url": url, **call}, key="k")
    return caught.value


async def test_it_sends_what_was_asked_for_and_gives_what_came_back() -> None:
    answer = plain(b'{"name":"Kim"}', 201, content_type="application/json", X_More="a", set_cookie="sid=1")
    async with receiving(always(answer)) as there, client(there.place) as made:
        reply = await made.send({"url": f"{there.url}/a?b=c", "body": {"t": "{{ 7*7 }}"}}, key="key-1")
        (got,) = there.requests
        assert (got.method, got.target, got.body) == ("POST", "/a?b=c", b'{"t":"{{ 7*7 }}"}')
        assert (got.headers["idempotency-key"], got.headers["host"]) == ("key-1", there.place)
        assert "cookie" not in got.headers
        assert (reply.status, reply.body, reply.problem) == (201, b'{"name":"Kim"}', "")
        assert dict(reply.headers) == {
            "content-length": "14",
            "content-type": "application/json",
            "x-more": "a",
        }
        assert reply.ms > 0
        await made.send({"url": there.url}, key="key-2")
        assert "cookie" not in there.requests[1].headers
        assert there.connections == 1


async def test_the_library_is_not_imported_before_the_first_call() -> None:
    code = "import sys, headrace.engine.engine; print('aiohttp' in sys.modules, 'yarl' in sys.modules)"
    done = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: ASYNC221
    assert done.stdout.split() == ["False", "False"]


# Where it goes


@pytest.mark.parametrize(
    "name", ["crm.example", "localhost", "localhost.", "LOCALHOST", "ip6-localhost.example"]
)
@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::1"],
        ["169.254.169.254"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["8.8.8.8", "127.0.0.1"],
        ["127.0.0.1", "2606:4700::1111"],
        ["fe80::1%lo"],
    ],
)
async def test_a_name_that_leads_inside_is_not_called(name: str, addresses: list[str]) -> None:
    async with receiving() as there, client(lookup=looking_up(addresses)) as made:
        error = await refused(made, f"http://{name}:{there.port}/")
        assert error.reason.startswith("refused: ")
        assert not error.retryable
        assert there.connections == 0


async def test_the_system_s_own_names_are_checked_too() -> None:
    async with receiving() as there, client() as made:
        assert "loopback" in (await refused(made, f"http://localhost:{there.port}/")).reason
        assert there.connections == 0


async def test_the_address_that_was_checked_is_the_one_that_is_connected_to() -> None:
    """The first look-up is answered well, the second leads inside: there is no second one for a connection."""
    seen: list[tuple[str, int]] = []
    connects: list[Any] = []
    answers = [["192.0.2.1"], ["127.0.0.1"]]

    async def look_up(host: str, port: int) -> list[str]:
        seen.append((host, port))
        return answers.pop(0)

    async with receiving() as there, client("192.0.2.1", lookup=look_up) as made:
        loop = asyncio.get_running_loop()
        connect = loop.sock_connect

        async def note(sock: socket.socket, address: Any) -> None:  # noqa: ARG001
            connects.append(address[0])
            # Nobody answers there: as if the packet had come back.
            raise ConnectionRefusedError(111, "refused")

        loop.sock_connect = note  # type: ignore[method-assign]
        try:
            first = await refused(made, f"http://rebind.example:{there.port}/", timeout_seconds=2)
            second = await refused(made, f"http://rebind.example:{there.port}/", timeout_seconds=2)
        finally:
            loop.sock_connect = connect  # type: ignore[method-assign]
        assert connects == ["192.0.2.1"]
        assert len(seen) == 2
        assert first.retryable
        assert second.reason.startswith("refused: rebind.example is 127.0.0.1")
        assert there.connections == 0


async def test_a_name_that_does_not_answer_keeps_no_other_call_waiting() -> None:
    async def look_up(host: str, port: int) -> list[str]:  # noqa: ARG001
        await asyncio.sleep(30 if host == "slow.example" else 0)
        return ["127.0.0.1"]

    async with (
        receiving() as there,
        client(there.place, f"fast.example:{there.port}", lookup=look_up) as made,
    ):
        slow = [
            asyncio.create_task(refused(made, "http://slow.example/", timeout_seconds=1.5)) for _ in range(50)
        ]
        await asyncio.sleep(0.05)
        assert (await made.send({"url": f"http://fast.example:{there.port}/"}, key="k")).status == 200
        assert not any(task.done() for task in slow)
        assert {(await task).reason for task in slow} == {"slow.example:80 did not answer within 1.5 s"}


async def test_names_are_looked_up_in_threads_that_do_not_hold_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def look_up(host: str, port: int) -> list[str]:  # noqa: ARG001
        asked.append(host)
        assert threading.current_thread().daemon
        sleep(0.2)
        if host == "nowhere.example":
            raise socket.gaierror(-2, "Name or service not known")
        return ["127.0.0.1"]

    monkeypatch.setattr(resolver, "_look_up", look_up)
    async with client() as made:
        urls = ["http://one.example/"] * 20 + ["http://nowhere.example/"] * 20
        errors = await asyncio.gather(*(refused(made, url) for url in urls))
        assert sorted(asked) == ["nowhere.example", "one.example"]
        assert [error.reason.partition(":")[0] for error in errors] == ["refused"] * 20 + [
            "nowhere.example"
        ] * 20
        gone = await refused(made, "http://nowhere.example/", timeout_seconds=0.05)
        assert "did not answer" in gone.reason


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
async def test_proxies_and_passwords_of_the_environment_are_not_used(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login u password p\n")
    async with receiving() as proxy, receiving() as there, client(there.place, proxy.place) as made:
        monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("NETRC", str(netrc))
        await made.send({"url": there.url}, key="k")
        assert (proxy.connections, len(there.requests)) == (0, 1)
        assert "authorization" not in there.requests[0].headers


def redirect(to: Callable[[Receiver], str], status: int = 302) -> Callable[[Receiver], Any]:
    async def answer(there: Receiver, got: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(plain(status=status, location=to(there)) if got.target == "/" else plain(b"there"))

    return lambda there: lambda got, writer: answer(there, got, writer)


@pytest.mark.parametrize(
    "to",
    [
        "http://127.0.0.2:{port}/x",
        "http://localhost:{port}/x",
        "http://127.0.0.1:1/x",
        "//169.254.169.254/latest/meta-data",
        "http://[::ffff:127.0.0.1]:{port}/x",
        "http://2130706433:{port}/x",
        "http://u:p@127.0.0.1:{port}/x",
        "https://127.0.0.1:{port}/x",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{port}/x",
        "http://127.0.0.1:{port}/a/%2e%2e/x",
    ],
)
async def test_a_redirect_to_another_host_port_or_scheme_is_not_followed(to: str) -> None:
    async with receiving() as there, client(there.place) as made:
        there.answers = redirect(lambda there: to.format(port=there.port))(there)
        error = await refused(made, there.url)
        assert "redirected to" in error.reason
        assert not error.retryable
        assert len(there.requests) == 1


@pytest.mark.parametrize("to", ["/x", "x", "?x", "http://127.0.0.1:{port}/x", "//127.0.0.1:{port}/x"])
async def test_a_redirect_on_the_same_host_is_followed(to: str) -> None:
    async with receiving() as there, client(there.place) as made:
        there.answers = redirect(lambda there: to.format(port=there.port))(there)
        reply = await made.send({"url": there.url}, key="k")
        assert reply.body == b"there"
        assert there.keys() == ["k", "k"]


@pytest.mark.parametrize(("status", "asked"), [(301, 1), (302, 1), (303, 1), (307, 2), (308, 2)])
async def test_a_body_is_sent_again_only_where_the_redirect_says_so(status: int, asked: int) -> None:
    async with receiving() as there, client(there.place) as made:
        there.answers = redirect(lambda _: "/x", status)(there)
        reply = await made.send({"url": there.url, "body": {"a": 1}}, key="k")
        assert [(got.method, got.body) for got in there.requests] == [("POST", b'{"a":1}')] * asked
        assert reply.status == (200 if asked == 2 else status)


async def test_redirects_end() -> None:
    async with receiving(always(plain(status=302, location="/"))) as there, client(there.place) as made:
        assert "more than 5 times" in (await refused(made, there.url)).reason
        assert len(there.requests) == 6


# What it takes

BOMB = 50 << 20


def packed(encoding: str, size: int = BOMB) -> bytes:
    zeros = bytes(1 << 20)
    pack = zlib.compressobj(wbits={"gzip": 31, "deflate": 15, "raw": -15}[encoding])
    return b"".join([*(pack.compress(zeros) for _ in range(size >> 20)), pack.flush()])


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw", "GZIP", "x-gzip"])
async def test_a_bomb_does_not_unpack(encoding: str) -> None:
    body = packed({"GZIP": "gzip", "x-gzip": "gzip"}.get(encoding, encoding))
    name = "deflate" if encoding == "raw" else encoding
    async with receiving(always(plain(body, content_encoding=name))) as there, client(there.place) as made:
        reply = await made.send({"url": there.url}, key="k")
        assert (reply.status, reply.body) == (200, b"")
        assert reply.problem == "the answer is larger than 1,048,576 bytes"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw"])
async def test_what_is_packed_within_bounds_is_unpacked(encoding: str) -> None:
    name = "deflate" if encoding == "raw" else encoding
    answer = plain(packed(encoding, 1 << 20), content_encoding=name)
    async with receiving(always(answer)) as there, client(there.place) as made:
        reply = await made.send({"url": there.url}, key="k")
        assert (reply.problem, reply.body) == ("", bytes(1 << 20))


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (plain(b"x" * 2000), "larger than 1,000 bytes"),
        (plain(zipped(b"x" * 2000), content_encoding="gzip"), "larger than 1,000 bytes"),
        (plain(b"not packed", content_encoding="gzip"), "cannot be unpacked"),
        (plain(zipped(b"x" * 500)[:-5], content_encoding="gzip"), "its end is missing"),
        (plain(zipped(b"x") * 2, content_encoding="gzip"), "something follows its end"),
        (plain(b"x", content_encoding="br"), "encoded as 'br'"),
        (plain(zipped(zipped(b"x")), content_encoding="gzip, gzip"), "encoded as 'gzip, gzip'"),
    ],
)
async def test_a_body_that_cannot_be_taken_is_a_problem_of_an_answer_that_came(
    answer: bytes, problem: str
) -> None:
    async with receiving(always(answer)) as there, client(there.place, answer_bytes=1000) as made:
        reply = await made.send({"url": there.url}, key="k")
        assert (reply.status, reply.body) == (200, b"")
        assert problem in reply.problem


HEAD = b"HTTP/1.1 200 OK\r\n"


async def drip(_: Got, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"content-length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def drip_headers(_: Got, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD)
    while True:
        writer.write(b"x-a: b\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def chunks_without_end(_: Got, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        await writer.drain()


async def silent(_: Got, writer: asyncio.StreamWriter) -> None:  # noqa: ARG001
    await asyncio.sleep(30)


async def hang_up(_: Got, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def half(_: Got, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"content-length: 1000\r\n\r\nhalf")
    await writer.drain()
    writer.close()


async def early_hints_without_end(_: Got, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 103 Early\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("answers", "problem"),
    [(drip, "not complete within 2 s"), (chunks_without_end, "larger than"), (half, "cut off")],
)
async def test_a_body_without_end_ends(answers: Any, problem: str) -> None:
    async with receiving(answers) as there, client(there.place) as made:
        started = perf_counter()
        reply = await made.send({"url": there.url, "timeout_seconds": 2}, key="k")
        assert problem in reply.problem
        assert (reply.status, reply.body) == (200, b"")
        assert perf_counter() - started < 10


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        (silent, "did not answer within 0.3 s"),
        (hang_up, "closed the connection without an answer"),
        (always(HEAD + b"x: y\r\n" * 200 + b"\r\n"), "not HTTP, or its headers are too large"),
        (always(HEAD + b"x: " + b"y" * 100_000 + b"\r\n\r\n"), "not HTTP, or its headers are too large"),
        (always(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), "not HTTP"),
        (always(b"\x00" * 100 + b"\r\n\r\n"), "not HTTP"),
        (always(b"HTTP/1.1 abc x\r\n\r\n"), "not HTTP"),
        (always(HEAD + b"content-length: -5\r\n\r\n"), "not HTTP"),
        (always(HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n"), "not HTTP"),
        (early_hints_without_end, "did not answer within 0.3 s"),
    ],
)
async def test_what_is_no_answer_may_be_tried_again(answers: Any, says: str) -> None:
    async with receiving(answers) as there, client(there.place) as made:
        error = await refused(made, there.url, timeout_seconds=0.3 if "0.3 s" in says else 10)
        assert says in error.reason
        assert error.retryable
        assert error.reason.startswith(there.place)


async def test_a_switch_of_protocols_that_nobody_asked_for_is_no_answer() -> None:
    answer = b"HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n" + b"x" * 100
    async with receiving(always(answer)) as there, client(there.place) as made:
        started = perf_counter()
        try:
            reply = await made.send({"url": there.url, "timeout_seconds": 0.3}, key="k")
            assert (reply.status, reply.body) == (101, b"")
        except CallError as error:
            assert error.retryable  # noqa: PT017 - either is well
        assert perf_counter() - started < 10


async def test_a_second_answer_that_nobody_asked_for_is_not_the_next_one() -> None:
    async def twice(got: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(plain(got.target.encode()) + plain(b"smuggled"))

    async with receiving(twice) as there, client(there.place) as made:
        for number in range(5):
            reply = await made.send({"url": f"{there.url}/{number}"}, key="k")
            assert reply.body == f"/{number}".encode()


async def test_headers_that_drip_end_with_the_call() -> None:
    async with receiving(drip_headers) as there, client(there.place) as made:
        started = perf_counter()
        assert (await refused(made, there.url, timeout_seconds=0.3)).retryable
        assert perf_counter() - started < 10


async def test_nobody_listens_and_nobody_has_the_name() -> None:
    async with receiving() as there:
        place, url = there.place, there.url

    async def unknown(host: str, port: int) -> list[str]:  # noqa: ARG001
        raise socket.gaierror(-2, "Name or service not known")

    async with client(place, lookup=unknown) as made:
        error = await refused(made, url)
        assert error.reason.startswith(f"{place}: no connection")
        assert error.retryable
        error = await refused(made, "https://nowhere.example/secret?x=y")
        assert (error.reason, error.retryable) == ("nowhere.example: the name has no address", True)


async def test_a_host_takes_no_more_connections_than_its_own() -> None:
    async with (
        receiving(silent) as slow,
        receiving() as fast,
        client(slow.place, fast.place, per_host=2) as made,
    ):
        waiting = [asyncio.create_task(refused(made, slow.url, timeout_seconds=0.5)) for _ in range(20)]
        await asyncio.sleep(0.1)
        assert (await made.send({"url": fast.url}, key="k")).status == 200
        assert slow.connections == 2
        assert {(await task).retryable for task in waiting} == {True}


# What is hidden


async def test_a_secret_that_comes_back_is_hidden() -> None:
    async def echo(got: Got, writer: asyncio.StreamWriter) -> None:
        said = got.headers["authorization"]
        writer.write(plain(f'{{"said": "{said}", "json": "t0p\\/secret+1"}}'.encode(), x_said=said))

    async with receiving(echo) as there, client(there.place) as made:
        for auth in (
            {"bearer": {"secret": "TOKEN"}},
            {"basic": {"user": "u", "password": {"secret": "TOKEN"}}},
        ):
            reply = await made.send({"url": there.url, "auth": auth}, key="k")
            told = str(reply.headers) + reply.body.decode()
            assert "(hidden)" in reply.headers["x-said"]
            assert there.requests[-1].headers["authorization"].split()[1] not in told


async def test_a_url_that_is_a_secret_is_not_told() -> None:
    async with receiving(hang_up) as there, client(there.place) as made:
        SECRETS["HOOK_URL"] = f"{there.url}/hook/s3cret"
        try:
            with pytest.raises(CallError) as caught:
                await made.send({"url": {"secret": "HOOK_URL"}, "method": "POST"}, key="k")
        finally:
            del SECRETS["HOOK_URL"]
        assert there.requests[0].target == "/hook/s3cret"
        assert "s3cret" not in str(caught.value)


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a certificate of 127.0.0.1 that signed itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
    ]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    run(command, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text(cert.read_text() + key.read_text())
    return both


async def test_a_certificate_is_checked_unless_the_file_says_no(certificate: Path, tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    async with receiving(tls=tls) as there, client(there.place) as made:

        async def send(**how: Any) -> Reply:
            return await made.send({"url": there.url, "tls": how}, key="k")

        error = await refused(made, there.url)
        assert "no safe connection (self" in error.reason
        assert (await send(verify=False)).status == 200
        assert (await send(ca=str(certificate))).status == 200
        error = await refused(made, there.url, tls={"ca": str(tmp_path / "nothing.pem")})
        assert "cannot be read" in error.reason
        assert "no safe connection" in (await refused(made, there.url)).reason
