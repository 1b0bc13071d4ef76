"""Probes, metrics, and a real server process: limits of the head, stopping."""

import asyncio
import json
import re
import signal
import socket
import threading
import time
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from headrace.api.server import bind
from headrace.api.tokens import weak_tokens
from headrace.compose import make_engine
from headrace.engine.metrics import make_registry
from headrace.engine.settings import Settings
from headrace.engine.variables import SettingsError
from tests.api.conftest import Server, body_of, write_workspace
from tests.api.server_process import Process
from tests.makers import make_request
from tests.stores import Place


async def test_probes(server: Server) -> None:
    assert (await server.client.get("/healthz")).json() == {"status": "ok"}
    ready = await server.client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "store": "ok", "codes": []})
    assert (await server.client.head("/healthz")).status_code == 200


async def test_a_store_that_takes_nothing_is_not_ready(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full() -> str:
        return "disk_full"

    monkeypatch.setattr(server.engine.store, "ready", full)
    ready = await server.client.get("/readyz")
    assert (ready.status_code, ready.json()["store"]) == (503, "disk_full")


async def test_problems_show_as_codes_and_in_whole_with_a_token(server: Server) -> None:
    (server.engine.workspace.path / "workflows" / "broken.json").write_text("{")
    await server.live.check()
    ready = (await server.client.get("/readyz")).json()
    assert ready["status"] == "ready"
    assert len(ready["codes"]) == 1
    assert "broken.json" not in str(ready)
    told = (await server.read("/readyz")).json()
    first, *others = told["problems"]
    assert (first["file"], first["severity"], first["line"]) == ("workflows/broken.json", "error", 1)
    assert {(each["place"], each["severity"]) for each in others} == {
        ("sources.chatty.answers_profile", "warning"),
        ("sources.chatty.debugger", "warning"),
        ("on.event[0]", "warning"),
    }
    assert told["facts"]["kind"] == server.place.kind
    assert "headrace_workspace_problems 1.0" in (await server.client.get("/metrics")).text


async def test_metrics(server: Server) -> None:
    await server.track(body_of("purchase-order", "page-view"))
    await server.track(b"{")
    await server.client.get("/collect/x/web")
    await server.client.get("/healthz")
    text = (await server.client.get("/metrics")).text
    for line in (
        'headrace_requests_total{door="track",status="200"} 1.0',
        'headrace_requests_total{door="track",status="400"} 1.0',
        'headrace_requests_total{door="collect",status="200"} 1.0',
        'headrace_request_seconds_count{door="track"} 2.0',
        'headrace_events_total{outcome="accepted"} 3.0',
        'headrace_runs_total{outcome="ok",workflow="remember"} 1.0',
        "headrace_requests_in_flight 0.0",
        "process_resident_memory_bytes",
    ):
        assert line in text


async def test_durable_writes_are_counted(
    tmp_path: Path, room: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKEND_KEY", "hush")
    workspace = write_workspace(tmp_path / "workspace")
    engine = make_engine(Settings.load({}, workspace=workspace, data=tmp_path / "data", store=room.url))
    await engine.start()
    try:
        await asyncio.gather(
            *(engine.track(make_request("x", source="web", session_id=f"s{n}")) for n in range(20))
        )
        told = generate_latest(make_registry(engine.metrics)).decode()
    finally:
        await engine.stop()
    number = dict(re.findall(r"^headrace_(commit_\w+) (.*)$", told, re.MULTILINE))
    assert 1 <= float(number["commit_seconds_count"]) == float(number["commit_changes_count"])
    assert float(number["commit_changes_sum"]) >= 20
    assert 0 < float(number["commit_seconds_sum"]) < 60
    # Many that come together are written together.
    assert float(number["commit_changes_count"]) < float(number["commit_changes_sum"])


def test_a_stop_lets_requests_finish(start: Any) -> None:
    process = start(slow=1.0)
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: statuses.append(process.post(body_of("x", session=f"s{n}"))))
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    process.running.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    assert statuses == [200] * 20
    assert process.running.wait(10) == 0
    assert process.lines()[-1]["event"] == "stopped"
    again = start(slow=0)
    connection = HTTPConnection("127.0.0.1", again.port, timeout=20)
    connection.request("GET", "/api/events?type=x", headers={"authorization": "Bearer a"})
    assert len(json.loads(connection.getresponse().read())["items"]) == 20
    connection.close()


def post_in_vain(process: Process) -> None:
    """Send a request that the server does not live to answer."""
    with pytest.raises((OSError, HTTPException)):
        process.post()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(start: Any, number: signal.Signals) -> None:
    process = start(slow=30)
    thread = threading.Thread(target=post_in_vain, args=(process,))
    thread.start()
    time.sleep(0.5)
    process.running.send_signal(number)
    time.sleep(0.5)
    assert process.running.poll() is None
    process.running.send_signal(number)
    assert process.running.wait(2) == 1
    thread.join()


def test_a_stop_does_not_wait_for_ever(start: Any) -> None:
    process = start(slow=30, HEADRACE_STOP_GRACE_SECONDS="1")
    thread = threading.Thread(target=process.post)
    thread.start()
    time.sleep(0.5)
    process.running.send_signal(signal.SIGTERM)
    assert process.running.wait(6) == 0
    thread.join()


def talk(port: int, *parts: bytes, pause: float = 0.0, seconds: float = 20) -> bytes:
    """Send bytes as they are; returns everything that came back until the server hung up."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        told = b""
        with suppress(OSError):
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        # What was answered before the server hung up can still be read.
        with suppress(OSError):
            while data := connection.recv(65536):
                told += data
        return told


def test_broken_http_is_answered_and_the_server_goes_on(start: Any) -> None:
    process = start()
    port = process.port
    head = b"POST /track HTTP/1.1\r\nhost: x\r\n"
    for parts, status in [
        ([b"nonsense\r\n\r\n"], b"400"),
        ([b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"], b"400"),
        ([head + b"content-length: x\r\n\r\n"], b"400"),
        ([head + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"], b"400"),
        ([head, *[b"x-%d: %s\r\n" % (n, b"y" * 1000) for n in range(80)]], b"431"),
        ([b"OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"], b"404"),
    ]:
        told = talk(port, *parts)
        assert told.startswith(b"HTTP/1.1 " + status), (parts[0], told)
        assert b"application/problem+json" in told
        assert b"connection: close" in told
    chunked = head + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    body = json.dumps(body_of("x")).encode()
    told = talk(port, chunked, b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    assert told.startswith(b"HTTP/1.1 200")
    assert process.post() == 200


def test_an_endless_body_is_refused_and_cut_off(start: Any) -> None:
    process = start()
    head = b"POST /track HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    told = talk(process.port, head, *[b"10000\r\n" + b" " * 65536 + b"\r\n"] * 60)
    assert told.startswith(b"HTTP/1.1 413")
    declared = b"POST /track HTTP/1.1\r\nhost: x\r\ncontent-length: 2000000\r\n\r\n"
    again = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    told = talk(process.port, declared, *[b" " * 100_000] * 20, again)
    assert told.startswith(b"HTTP/1.1 413")
    assert b'{"status":"ok"}' in told


def test_a_slow_head_is_cut_off(start: Any) -> None:
    process = start()
    began = time.monotonic()
    told = talk(process.port, *[b"POST /track HTTP/1.1\r\n"], *[b"x: y\r\n"] * 20, pause=0.2)
    assert told == b""
    assert time.monotonic() - began < 6
    assert process.post() == 200


def test_an_address_in_use_says_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings.load({}, port=taken.getsockname()[1])
        with pytest.raises(SettingsError, match="in use by another program: stop it, or choose another port"):
            bind(settings)


@pytest.mark.parametrize(
    ("host", "said"), [("192.0.2.1", "no such address"), ("no.such.host.invalid", "no address")]
)
def test_an_address_that_is_none_says_so(host: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        bind(Settings.load({}, host=host))


def test_no_line_of_the_log_holds_what_was_sent(start: Any) -> None:
    process = start(HEADRACE_LOG_LEVEL="debug")
    process.post(body_of("page-view", session="very-secret-session"))
    process.post(body_of("page-view", source="very-secret-source"))
    process.post({"very-secret": 1})
    process.running.send_signal(signal.SIGTERM)
    assert process.running.wait(10) == 0
    lines = process.lines()
    assert "very-secret" not in json.dumps(lines)
    assert {line["code"] for line in lines if line["event"] == "refused"} == {"unauthorized", "bad_fields"}
    assert {"event", "level", "logger", "timestamp"} <= set(lines[0])


def test_tokens_that_are_weak_are_told(tmp_path: Path) -> None:
    assert weak_tokens(Settings.load({}, data=tmp_path)) == []
    file = tmp_path / "token"
    file.write_text("x" * 40)
    file.chmod(0o600)
    assert weak_tokens(Settings.load({}, data=tmp_path)) == []
    file.chmod(0o644)
    assert weak_tokens(Settings.load({}, data=tmp_path)) == [
        f"{file} may be read by every user of this machine: say chmod 600 {file}."
    ]
    told = weak_tokens(
        Settings.load(
            {"HEADRACE_ADMIN_TOKEN_FILE": str(file), "HEADRACE_READ_TOKENS": "short,shorter," + "x" * 16}
        )
    )
    assert [line.split()[0] for line in told] == ["HEADRACE_READ_TOKENS", str(file)]
    assert "shorter" not in str(told)
    (told_of,) = weak_tokens(Settings.load({"HEADRACE_ADMIN_TOKEN": "x" * 15}, data=tmp_path))
    assert "HEADRACE_ADMIN_TOKEN has fewer than 16 characters" in told_of


def test_a_weak_token_is_told_at_the_start(start: Any) -> None:
    (line,) = [line for line in start().lines() if line["event"] == "weak token"]
    assert line["level"] == "warning"
    assert line["reason"].startswith("HEADRACE_ADMIN_TOKEN has")
