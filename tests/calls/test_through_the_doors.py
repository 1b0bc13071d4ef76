"""Attempts to lead calls inside or to break out of them, by events that come through /track."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from headrace.api.app import build_app
from headrace.api.doors.gate import Gate
from headrace.api.tokens import Tokens
from headrace.engine.calls.address import Rules
from headrace.engine.calls.client import Client
from headrace.engine.calls.inline import Calls
from headrace.engine.catalog import find_plugins
from headrace.engine.engine import Engine
from headrace.engine.files.lint import lint
from headrace.engine.files.watch import LiveWorkspace
from headrace.engine.settings import Settings
from headrace.engine.store.open import open_store
from tests.calls.receiver import Got, always, plain, receiving
from tests.stores import Place

SECRETS = {"TOKEN": "t0p-secret"}

NAMES: dict[str, list[list[str]]] = {
    "inward.test": [["127.0.0.1"]],
    "inward6.test": [["::1"]],
    "mapped.test": [["::ffff:127.0.0.1"]],
    "both.test": [["192.0.2.1", "127.0.0.1"]],
    "metadata.test": [["169.254.169.254"]],
    "shared.test": [["100.64.0.1"]],
}
HOSTS = [
    "127.0.0.1", "127.0.0.2", "127.255.255.254", "0.0.0.0", "[::1]", "[::]",  # noqa: S104 - to be refused
    "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]",
    "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "[2001:0:7f00:1::80ff:fffe]", "[fe80::5efe:127.0.0.1]",
    "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0x7f.1", "0177.0.0.1", "017700000001",
    "127.0.0.01", "127.0.0.1.", "\uff11\uff12\uff17.\uff10.\uff10.\uff11", "127\u30020\u30020\u30021",
    "\u24db\u24de\u24d2alhost", "localhost", "localhost.", "LOCALHOST", *NAMES, "10.0.0.1", "172.16.0.1",
    "192.168.0.1", "100.64.0.1", "100.100.100.200", "169.254.169.254", "168.63.129.16", "192.0.0.192",
    "224.0.0.1", "255.255.255.255", "[fd00:ec2::254]", "[fc00::1]", "[fe80::1]", "[ff02::1]",
]  # fmt: skip

INJECTIONS = [
    "{{ 7*7 }}", "{% for x in range(99) %}x{% endfor %}", "${7*7}", "#{7*7}", "<%= 7*7 %>", "{{ profile }}",
    "@{inside}/", "@{inside}", "#@{inside}/", "?@{inside}", "//{inside}/", "http://{inside}/", ":80@{inside}",
    "../../{inside}", "..", ".", "%2e%2e", "..%2f..%2f", "a/../../b", "\\\\{inside}\\", ".{inside}", "&a=b&c", "a;b=c",
    '","admin":true,"x":"', "'; drop table events; --", "</script>", "\u2028\u202e", "\U0001f600", "%0d%0aHost: x",
    "%00", "a%", " ", "",
]  # fmt: skip
BREAKS = [
    "a\r\nHost: {inside}", "a\nx-evil: 1", "a\rx-evil: 1", "a\x00b", "\r\n\r\nGET / HTTP/1.1\r\nHost: {inside}\r\n\r\n",
    "a\r\n x: folded", "\u560d\u560ax-evil: 1", "a\u0085b", "\x0b\x0c", "\x7f",
]  # fmt: skip


def node(**config: Any) -> dict[str, Any]:
    return {"plugin": "http_request", "config": {"timeout_seconds": 2, **config}}


def workflow(event: str, **config: Any) -> dict[str, Any]:
    return {"on": {"event": [event]}, "nodes": {"ask": node(**config)}}


class House:
    """A whole engine behind the app; `track` gives what the debugger says of the node `ask`."""

    def __init__(self, http: httpx.AsyncClient, engine: Engine) -> None:
        self.http = http
        self.engine = engine

    async def track(self, event: str, **properties: Any) -> dict[str, Any]:
        body = {
            "source": {"id": "web"},
            "session": {"id": "s1"},
            "events": [{"type": event, "properties": properties}],
            "options": {"debugger": True},
        }
        response = await self.http.post("/track", content=json.dumps(body))
        assert response.status_code == 200, response.text
        return _ask(response.json()["debugging"]["execution"])


def _ask(found: Any) -> dict[str, Any]:
    """Return the trace's part of the node, wherever it stands in the answer."""
    if isinstance(found, dict):
        if "ask" in found:
            return dict(found["ask"])
        found = list(found.values())
    for item in found if isinstance(found, list) else ():
        if isinstance(item, dict | list) and (inner := _ask(item)):
            return inner
    return {}


Opens = Callable[..., AbstractAsyncContextManager[House]]


@pytest.fixture
def open_house(tmp_path: Path, room: Place) -> Opens:
    @asynccontextmanager
    async def opened(workflows: dict[str, Any], *allowed: str, lookup: Any = None) -> AsyncIterator[House]:
        workspace = tmp_path / "workspace"
        (workspace / "workflows").mkdir(parents=True)
        (workspace / "sources.json").write_text(json.dumps({"sources": {"web": {"debugger": True}}}))
        for name, file in workflows.items():
            (workspace / "workflows" / f"{name}.json").write_text(json.dumps(file))
        live = LiveWorkspace(workspace, find_plugins(), SECRETS.get)
        assert not [str(problem) for problem in live.refused]
        settings = Settings.load(
            {}, workspace=workspace, data=tmp_path / "data", allow_addresses=",".join(allowed)
        )
        client = Client(Rules(allowed), SECRETS.get, lookup=lookup)
        http = Calls(client) if lookup else None
        engine = Engine(settings, open_store(room.url, data=tmp_path / "data"), live, SECRETS.get, http=http)
        await engine.start()
        transport = httpx.ASGITransport(build_app(engine, Tokens("admin", []), Gate(settings)))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http_client:
            yield House(http_client, engine)
        await engine.stop()
        await client.close()

    return opened


async def look_up(host: str, port: int) -> list[str]:
    """Give the addresses of our names in turn, and ask the system for others."""
    if host in NAMES:
        answers = NAMES[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]
    found = await asyncio.get_running_loop().getaddrinfo(host, port)
    return [str(one[4][0]) for one in found]


async def test_no_spelling_of_an_address_leads_inside(open_house: Opens) -> None:
    assert len(HOSTS) >= 40
    async with receiving() as inside:
        urls = [f"http://{host}:{inside.port}/{{{{ event.properties.q }}}}" for host in HOSTS]
        files = {f"try{n}": workflow(f"try-{n}", url=url) for n, url in enumerate(urls)}
        async with open_house(files, lookup=look_up) as house:
            for number, host in enumerate(HOSTS):
                ask = await house.track(f"try-{number}", q="x")
                assert ask["port"] == "failed", host
                why = ask["calls"][0]["error"]
                assert why == ask["result"]["error"]
                assert why.startswith("refused: ") or "in a strange spelling" in why, (host, why)
        assert inside.connections == 0


async def test_the_same_call_arrives_where_a_setting_opens_the_address(open_house: Opens) -> None:
    async with receiving() as inside:
        files = {"open": workflow("open", url=f"{inside.url}/x")}
        async with open_house(files, "127.0.0.0/8") as house:
            ask = await house.track("open")
            assert (ask["port"], ask["calls"][0]["status"]) == ("ok", 200)
        assert [got.target for got in inside.requests] == ["/x"]


async def test_a_name_that_changes_its_mind_leads_nowhere(open_house: Opens) -> None:
    """The name has an open address first, and one inside whenever it is asked for again."""
    async with receiving(always(plain(b"", connection="close"))) as there, receiving() as inside:
        answers = [["127.0.0.1"]]

        async def rebind(host: str, port: int) -> list[str]:  # noqa: ARG001
            return answers.pop(0) if answers else ["127.0.0.2"]

        url = f"http://rebind.test:{there.port}/"
        files = {"rebind": workflow("rebind", url=url)}
        async with open_house(files, "127.0.0.1/32", lookup=rebind) as house:
            assert (await house.track("rebind"))["port"] == "ok"
            ask = await house.track("rebind")
            assert ask["result"]["error"].startswith("refused: rebind.test is 127.0.0.2, a loopback address")
        assert (len(there.requests), inside.connections) == (1, 0)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_leads_nowhere_else(open_house: Opens, status: int) -> None:
    async with receiving() as inside, receiving() as there:
        there.answers = always(plain(b"", status, location=inside.url))
        async with open_house({"go": workflow("go", url=there.url)}, there.place) as house:
            ask = await house.track("go")
            assert "only the same host is followed" in ask["result"]["error"]
        assert inside.connections == 0


def everywhere(url: str) -> dict[str, Any]:
    """Put a value into each part of a call."""
    value = "{{ event.properties.value }}"
    return {
        "path": workflow("path", url=f"{url}/a/{value}/b"),
        "query": workflow("query", url=f"{url}/?q={value}"),
        "json": workflow("json", url=url, body={"value": value, "list": [value], "text": f"<{value}>"}),
        "form": workflow("form", url=url, body={"value": value}, **{"as": "form"}),
        "text": workflow("text", url=url, body=f"<{value}>", **{"as": "text"}),
        "header": workflow("header", url=url, headers={"x-value": value, "authorization": value}),
        "user": workflow("user", url=url, auth={"basic": {"user": value, "password": {"secret": "TOKEN"}}}),
    }


async def test_what_an_event_says_arrives_as_it_was_sent_or_not_at_all(open_house: Opens) -> None:
    async with receiving() as inside, receiving() as there:
        async with open_house(everywhere(there.url), there.place) as house:
            for text in [*INJECTIONS, *BREAKS]:
                value = text.replace("{inside}", inside.place)
                there.requests.clear()
                path = await house.track("path", value=value)
                if path["port"] == "ok":
                    before, got, after = there.requests.pop().target.removeprefix("/").split("/")
                    assert (before, unquote(got), after) == ("a", value, "b")
                query = await house.track("query", value=value)
                if query["port"] == "ok":
                    assert unquote(there.requests.pop().target.removeprefix("/?q=")) == value
                assert (path["port"], query["port"]) in (("ok", "ok"), ("error", "error"), ("error", "ok"))
                for ask, expected in (
                    ("json", {"value": value, "list": [value], "text": f"<{value}>"}),
                    ("form", {"value": [value]}),
                    ("text", f"<{value}>"),
                ):
                    assert (await house.track(ask, value=value))["port"] == "ok"
                    assert _said(ask, there.requests.pop()) == expected
        assert inside.connections == 0


def _said(kind: str, got: Got) -> Any:
    from urllib.parse import parse_qs  # noqa: PLC0415 - beside its use

    if kind == "json":
        return json.loads(got.body)
    return parse_qs(got.body.decode(), keep_blank_values=True) if kind == "form" else got.body.decode()


async def test_a_value_does_not_break_out_of_its_header(open_house: Opens) -> None:
    async with receiving() as inside, receiving() as there:
        async with open_house(everywhere(there.url), there.place) as house:
            for text in BREAKS:
                value = text.replace("{inside}", inside.place)
                ask = await house.track("header", value=value)
                assert ask["port"] in ("error", "failed"), text
                assert (
                    "cannot stand in a header" in ask["result"]["error"]
                    or "line break" in ask["result"]["error"]
                )
            assert there.requests == []
            ask = await house.track("user", value="a:b")
            assert "colon" in ask["result"]["error"]
            await house.track("header", value="{{ 7*7 }} <b>")
            (got,) = there.requests
            assert (got.headers["x-value"], got.headers["authorization"]) == ("{{ 7*7 }} <b>",) * 2
        assert inside.connections == 0


async def test_a_secret_is_in_no_answer_no_trace_and_no_store(open_house: Opens, room: Place) -> None:
    async def echo(got: Got, writer: asyncio.StreamWriter) -> None:
        said = json.dumps(got.headers).encode()
        writer.write(plain(said, content_type="application/json", x_said=got.headers["authorization"]))

    async with receiving(echo) as there:
        secret = {"secret": "TOKEN"}
        keep = {"fields": {"profile.traits.said": "{{ nodes.ask.body }}"}}
        config = {"url": there.url, "auth": {"bearer": secret}, "headers": {"x-key": secret}}
        file = {
            "on": {"event": ["say"]},
            "nodes": {
                "ask": node(**config) | {"then": {"ok": ["keep"]}},
                "keep": {"plugin": "set_fields", "config": keep},
            },
        }
        async with open_house({"say": file}, there.place) as house:
            ask = await house.track("say")
            assert ask["result"]["body"]["authorization"] == "Bearer (hidden)"
            assert there.requests[0].headers["x-key"] == "t0p-secret"
            assert "t0p-secret" not in json.dumps(ask)
            await house.engine.parts.keeper.flush()
        assert "t0p-secret" not in repr(room.contents())
        assert "(hidden)" in repr(room.contents("profiles"))


def test_addresses_in_a_strange_spelling_are_found_when_a_file_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "workflows").mkdir()
    (tmp_path / "sources.json").write_text('{"sources": {"web": {}}}')
    urls = ["http://127.1/", "http://2130706433/", "http://0x7f.1/", "http://crm.example/../x"]
    for number, url in enumerate(urls):
        (tmp_path / "workflows" / f"w{number}.json").write_text(json.dumps(workflow("x", url=url)))
    live = LiveWorkspace(tmp_path, find_plugins(), SECRETS.get)
    assert {problem.place for problem in live.refused} == {"nodes.ask.config.url"}
    assert len(live.refused) == len(urls)


def test_every_secret_of_a_call_that_is_not_set_is_found_too(tmp_path: Path) -> None:
    (tmp_path / "workflows").mkdir()
    (tmp_path / "sources.json").write_text('{"sources": {"web": {}}}')
    auth = {"basic": {"user": {"secret": "USER"}, "password": {"secret": "PASSWORD"}}}
    config = {"url": {"secret": "URL"}, "headers": {"x-key": {"secret": "KEY"}}, "sign": [{"secret": "HOOK"}]}
    (tmp_path / "workflows" / "w.json").write_text(json.dumps(workflow("x", auth=auth, **config)))
    found = lint(tmp_path, find_plugins(), lambda _: None)
    assert {(problem.code, problem.place.removeprefix("nodes.ask.config.")) for problem in found} >= {
        ("W18", place)
        for place in ("url", "headers.x-key", "auth.basic.user", "auth.basic.password", "sign[0]")
    }
