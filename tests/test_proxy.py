"""The proxy that goes wrong on request, in front of a small server and of a real node."""

import gzip
import json
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, IncompleteRead, RemoteDisconnected
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from elasticsearch import ApiError, AsyncElasticsearch, ConnectionTimeout
from elasticsearch import ConnectionError as NoConnection

from tests.parts import faults
from tests.parts.elasticsearch import ElasticsearchNode
from tests.parts.fixtures import delete_all
from tests.parts.proxy import FaultProxy


class Tiny(BaseHTTPRequestHandler):
    """Keeps what it is sent, and answers it; knows just enough of bulks."""

    protocol_version = "HTTP/1.1"
    server: "TinyServer"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, body))
        if self.path.partition("?")[0] == "/_bulk":
            heads = [json.loads(line) for line in body.split(b"\n")[::2] if line]
            items = [{op: {**place, "status": 201}} for head in heads for op, place in head.items()]
            body = json.dumps({"took": 1, "errors": False, "items": items}).encode()
        self.reply(200, body)

    def do_GET(self) -> None:
        self.server.got.append((self.path, b""))
        self.reply(200, b"hello " * 1000)

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "7")
        self.end_headers()

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("X-Connection", str(self.client_address[1]))
        if self.path == "/chunks":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        else:
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


class TinyServer(ThreadingHTTPServer):
    """Holds what it got; every request that came is in `got`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Tiny)
        self.got: list[tuple[str, bytes]] = []


@pytest.fixture
def tiny() -> Iterator[TinyServer]:
    with TinyServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(tiny: TinyServer) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", tiny.server_port) as proxy:
        yield proxy


@pytest.fixture
def line(proxy: FaultProxy) -> Iterator[HTTPConnection]:
    """One connection to the proxy, that opens again when it was closed."""
    connection = HTTPConnection("127.0.0.1", proxy.port, timeout=5)
    yield connection
    connection.close()


def post(line: HTTPConnection, body: bytes = b"x", path: str = "/write", **headers: str) -> tuple[int, bytes]:
    """Send one request; a failure closes the connection."""
    try:
        line.request("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = line.getresponse()
        return answer.status, answer.read()
    except (OSError, HTTPException):
        line.close()
        raise


# Without a fault


def test_it_passes_on_and_keeps_connections(
    tiny: TinyServer, proxy: FaultProxy, line: HTTPConnection
) -> None:
    sides = set()
    for number in range(3):
        line.request("POST", f"/write?n={number}", b"\x00\xff" * 100_000)
        answer = line.getresponse()
        assert answer.read() == b"\x00\xff" * 100_000
        sides.add(answer.headers["X-Connection"])
    assert len(sides) == 1
    assert [path for path, _ in tiny.got] == ["/write?n=0", "/write?n=1", "/write?n=2"]
    assert [
        (one.target, one.faulty, one.forwarded, one.status) for one in proxy.seen("POST", "^/write$")
    ] == [(f"/write?n={number}", False, True, 200) for number in range(3)]
    assert proxy.seen("GET") == []


def test_chunks_and_replies_without_a_body_pass(line: HTTPConnection) -> None:
    line.request("GET", "/chunks")
    assert line.getresponse().read() == b"hello " * 1000
    line.request("HEAD", "/")
    answer = line.getresponse()
    assert (answer.read(), answer.headers["Content-Length"]) == (b"", "7")
    line.request("POST", "/chunks", iter([b"one ", b"two"]), {"Content-Length": "7"})
    assert line.getresponse().read() == b"one two"


def test_many_at_once(proxy: FaultProxy, tiny: TinyServer) -> None:
    def send() -> None:
        connection = HTTPConnection("127.0.0.1", proxy.port, timeout=10)
        for _ in range(10):
            assert post(connection) == (200, b"x")
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tiny.got) == len(proxy.seen()) == 80


# Which requests


def test_a_fault_is_for_what_matches(proxy: FaultProxy, line: HTTPConnection) -> None:
    rule = proxy.on(
        faults.answer(503),
        method="POST",
        path="^/write$",
        when=lambda request: request.body == b"bad",
        skip=1,
        times=2,
    )
    assert post(line, b"good")[0] == 200
    assert post(line, b"bad", "/write/other")[0] == 200
    assert [post(line, b"bad", "/write?q=1")[0] for _ in range(5)] == [200, 503, 503, 200, 200]
    assert rule.hits == 2
    assert [one.status for one in proxy.seen() if one.faulty] == [503, 503]


def test_the_first_rule_that_takes_a_request_has_it(proxy: FaultProxy, line: HTTPConnection) -> None:
    proxy.on(faults.answer(429), times=1)
    proxy.on(faults.answer(503), times=1)
    assert [post(line)[0] for _ in range(3)] == [429, 503, 200]


def test_a_rule_can_be_waited_for(proxy: FaultProxy, line: HTTPConnection) -> None:
    rule = proxy.on(faults.delay(0.01))
    with pytest.raises(AssertionError, match="no request came"):
        rule.wait(0.05)
    post(line)
    rule.wait(0)


# Each fault


def test_answers_of_its_own_are_not_forwarded(
    proxy: FaultProxy, tiny: TinyServer, line: HTTPConnection
) -> None:
    proxy.on(faults.answer(429, retry_after=3))
    line.request("POST", "/write", b"x")
    answer = line.getresponse()
    assert (answer.status, answer.headers["Retry-After"]) == (429, "3")
    assert json.loads(answer.read())["error"]["type"] == "es_rejected_execution_exception"
    assert tiny.got == []


def test_refused_connections(proxy: FaultProxy, tiny: TinyServer, line: HTTPConnection) -> None:
    post(line)
    proxy.refuse()
    # The open connection breaks first; a new one is refused.
    with pytest.raises((OSError, HTTPException)):
        post(line)
    with pytest.raises(ConnectionRefusedError):
        post(line)
    proxy.refuse()
    proxy.accept()
    proxy.accept()
    assert post(line) == (200, b"x")
    assert len(tiny.got) == 2
    line.close()
    proxy.refuse()
    proxy.clear()
    assert post(line) == (200, b"x")


@pytest.mark.parametrize(("fault", "written"), [(faults.hang_before, 0), (faults.hang_after, 1)])
def test_hanging(proxy: FaultProxy, tiny: TinyServer, fault: Any, written: int) -> None:
    rule = proxy.on(fault, times=1)
    line = HTTPConnection("127.0.0.1", proxy.port, timeout=0.2)
    with pytest.raises(TimeoutError):
        post(line)
    assert len(tiny.got) == written
    assert post(line) == (200, b"x")
    line.close()
    assert len(tiny.got) == written + 1
    assert rule.hits == 1


def test_what_hangs_is_closed_when_the_faults_are_cleared(proxy: FaultProxy, line: HTTPConnection) -> None:
    rule = proxy.on(faults.hang_before)
    ended: list[object] = []

    def send() -> None:
        try:
            ended.append(post(line))
        except (OSError, HTTPException) as error:
            ended.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    rule.wait()
    proxy.clear()
    thread.join(5)
    assert len(ended) == 1
    assert isinstance(ended[0], RemoteDisconnected)
    assert post(line) == (200, b"x")


@pytest.mark.parametrize(("fault", "written"), [(faults.drop_before, 0), (faults.drop_after, 1)])
def test_dropped(proxy: FaultProxy, tiny: TinyServer, line: HTTPConnection, fault: Any, written: int) -> None:
    proxy.on(fault, times=1)
    with pytest.raises(RemoteDisconnected):
        post(line)
    assert len(tiny.got) == written
    assert [(one.forwarded, one.status) for one in proxy.seen()] == [(bool(written), None)]
    assert post(line) == (200, b"x")


def test_a_reply_that_is_cut(proxy: FaultProxy, tiny: TinyServer, line: HTTPConnection) -> None:
    proxy.on(faults.cut_reply, times=1)
    with pytest.raises(IncompleteRead) as cut:
        post(line, b"0123456789")
    assert (cut.value.partial, cut.value.expected) == (b"01234", 5)
    assert len(tiny.got) == 1
    assert post(line) == (200, b"x")


def test_a_delay(proxy: FaultProxy, tiny: TinyServer, line: HTTPConnection) -> None:
    proxy.on(faults.delay(0.2))
    began = time.monotonic()
    assert post(line) == (200, b"x")
    assert time.monotonic() - began >= 0.2
    impatient = HTTPConnection("127.0.0.1", proxy.port, timeout=0.05)
    with pytest.raises(TimeoutError):
        post(impatient, b"late")
    until = time.monotonic() + 5
    while len(tiny.got) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert tiny.got[-1] == ("/write", b"late")


@pytest.mark.parametrize("packed", [False, True])
def test_some_items_of_a_bulk(
    proxy: FaultProxy, tiny: TinyServer, line: HTTPConnection, packed: bool
) -> None:
    proxy.on(faults.fail_items(lambda position, _: position % 2 == 1))
    body = b"".join(b'{"create":{"_id":"%d"}}\n{"n":%d}\n' % (number, number) for number in range(4))
    headers = {"Content_Encoding": "gzip"} if packed else {}
    status, text = post(
        line,
        gzip.compress(body) if packed else body,
        "/_bulk?filter_path=items.*.status&refresh=false",
        **headers,
    )
    said = json.loads(text)
    assert status == 200
    assert said["errors"] is True
    assert [item["create"]["_id"] for item in said["items"]] == ["0", "1", "2", "3"]
    assert [item["create"]["status"] for item in said["items"]] == [201, 429, 201, 429]
    assert said["items"][1]["create"]["error"]["type"] == "es_rejected_execution_exception"
    ((target, forwarded),) = tiny.got
    assert target == "/_bulk?refresh=false"
    assert forwarded == b'{"create":{"_id":"0"}}\n{"n":0}\n{"create":{"_id":"2"}}\n{"n":2}\n'


def test_all_items_of_a_bulk(proxy: FaultProxy, tiny: TinyServer, line: HTTPConnection) -> None:
    proxy.on(faults.fail_items(lambda _, item: item.operation == "delete", status=503))
    _, text = post(line, b'{"delete":{"_id":"1"}}\n{"delete":{"_id":"2"}}\n', "/_bulk")
    assert [item["delete"]["status"] for item in json.loads(text)["items"]] == [503, 503]
    assert tiny.got == []


def test_a_server_that_is_gone_closes_the_connection(line: HTTPConnection, tiny: TinyServer) -> None:
    assert post(line)[0] == 200
    tiny.shutdown()
    tiny.server_close()
    again = HTTPConnection(line.host, line.port, timeout=5)
    with pytest.raises(RemoteDisconnected):
        post(again)
    again.close()


# In front of a real node


async def test_the_official_client_through_it(elasticsearch_node: ElasticsearchNode) -> None:
    host, _, port = elasticsearch_node.host.partition(":")
    with FaultProxy(host, int(port)) as proxy:
        client = AsyncElasticsearch(f"http://{proxy.host}", max_retries=0, request_timeout=10)
        try:
            await through(client, proxy)
        finally:
            await client.close()
            delete_all(elasticsearch_node, "test-proxy")


async def through(client: AsyncElasticsearch, proxy: FaultProxy) -> None:
    """Send each kind of trouble through the client, and see what was written."""
    index = "test-proxy-a"
    proxy.on(faults.fail_items(lambda _, item: item.place["_id"] == "2"), path="/_bulk$", times=1)
    operations = [
        line for number in "123" for line in ({"create": {"_index": index, "_id": number}}, {"n": 1})
    ]
    said = (await client.bulk(operations=operations)).body
    assert [item["create"]["status"] for item in said["items"]] == [201, 429, 201]
    assert not await client.exists(index=index, id="2")

    for status in (429, 503):
        proxy.on(faults.answer(status), method="PUT", times=1)
        with pytest.raises(ApiError) as refused:
            await client.index(index=index, id="4", document={})
        assert refused.value.status_code == status
    assert not await client.exists(index=index, id="4")

    proxy.on(faults.hang_after, method="PUT", times=1)
    with pytest.raises(ConnectionTimeout):
        await client.options(request_timeout=1).index(index=index, id="5", document={})
    assert await client.exists(index=index, id="5")

    for number, fault in enumerate((faults.drop_after, faults.cut_reply)):
        # The client's transport sends a PUT once more by itself when its connection breaks before the reply begins.
        tries = 2 if fault is faults.drop_after else 1
        rule = proxy.on(fault, method="PUT", times=tries)
        with pytest.raises(NoConnection):
            await client.index(index=index, id=f"6{number}", document={})
        assert rule.hits == tries
        assert await client.exists(index=index, id=f"6{number}")

    proxy.refuse()
    with pytest.raises(NoConnection):
        await client.info()
    proxy.accept()
    assert (await client.info())["version"]["number"].startswith("9.")
