"""Documents that break stores, sent through the doors: refused clearly, or kept as they were."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from headrace.api.app import build_app
from headrace.api.tokens import Tokens
from headrace.engine.store.elastic import ElasticStore
from headrace.engine.store.elastic.bulk import Bulk
from headrace.engine.store.elastic.cluster import Cluster
from headrace.engine.store.elastic.layout import alias
from headrace.engine.store.elastic.search import refresh
from headrace.engine.store.elastic.settle import Settler
from headrace.engine.store.elastic.sweep import RECORDS, Sweeper
from headrace.engine.store.open import open_store
from tests.makers import chain, make_engine, write_workspace

ADMIN = "admin-token"
LIMIT = 8 << 20
LONG_ID = "😀" * 256
NDJSON = '\n{"delete":{"_index":"*","_id":"x"}}\n'
SECONDS = 10.0

FILES: dict[str, Any] = {
    "sources.json": {
        "sources": {
            "web": {},
            LONG_ID: {},
            "own": {"trust_profile_ids": True, "keys": [{"secret": "SHOP_KEY"}]},
        }
    },
    # What a client sends becomes part of its profile too.
    "keep": chain("keep", ("set_fields", {"fields": {"profile.traits.sent": "{{ event.properties }}"}})),
}


def nested(levels: int) -> Any:
    """Return objects and lists that stand in each other so many levels deep."""
    made: Any = 1
    for level in range(levels):
        made = {"d": made} if level % 2 else [made]
    return {"d": made}


PROPERTIES: dict[str, Any] = {
    "a number": {"a": 1},
    "an object where a number was": {"a": {"b": 1}},
    "a list where an object was": {"a": [{"b": {"c": 1}}, 2, "x", None]},
    "a text where a list was": {"a": "2026-01-01"},
    "no date where a date was": {"a": "2026-13-45T99:99:99Z"},
    "a number again": {"a": 1.5},
    "an object under a dotted name": {"a": {"b.c": 1}, "a.b": {"c": 2}, "a.b.c": 3},
    "10,000 keys": {f"key {n}": n for n in range(10_000)},
    "10,000 keys in objects": {f"k{n}": {"x": {"y": n}} for n in range(10_000)},
    "a list of 20,000": {"list": list(range(20_000))},
    "1 MiB of text": {"text": "ä" * (1 << 19)},
    # A node writes no value above 1 MiB.
    "1 MiB of text without a blank, in a list": {"texts": ["x" * ((1 << 20) - 20)]},
    "a key of 100,000 characters": {"k" * 100_000: 1},
    "depth 60": nested(59),
    "empty keys": {"": {"": {"": 1}}},
    "dotted keys": {"a.b": 1, ".": 2, "..": 3, "a.": 4, ".a": 5, "a..b": 6},
    "blank keys": {" ": 1, "  ": 2, "\t": 3, "\n": 4, "\u00a0": 5, " . ": 6},
    "nul": {"n\0l": "a\0b", "\0": ["\0"], "x": {"\0\0": 1}},
    "control characters": {"".join(map(chr, range(32))) + "\x7f": "".join(map(chr, range(32)))},
    "names of JavaScript": {"__proto__": {"x": 1}, "constructor": {"prototype": 1}},
    "dollars": {"$": 1, "$where": "1", "$.x": {"$ref": "#/x"}, "${x}": "${x}"},
    "templates": {"a": "{{ profile.id }}", "{{ x }}": "{% raw %}", "b": "{{ 1 / 0 }}"},
    "our own names": {
        "doc": {"doc": 1},
        "pending": [{"id": 1}],
        "pending_since": "x",
        "key": 1,
        "change": [],
        "facets": {"a": 1},
        "text": {},
        "n": "no number",
        "claimed": True,
        "hidden": True,
        "_id": "x",
        "_source": 1,
        "_index": {},
        "type": [1],
        "tenant": {"x": 1},
        "received": "never",
    },
    "dates": {"at": "9999-12-31T23:59:59.999Z", "from": "-9999-01-01", "to": "0000-00-00", "ms": 2**53},
    "big integers": {"a": 2**70, "b": -(2**70), "c": 2**63, "d": 2**64 - 1, "e": [10**300]},
    "floats": {"a": [5e-324, 1.7e308, -1.7e308, -0.0, 0.1, 1e22], "b": 1.0, "c": 1},
    "a bulk's lines": {"a": NDJSON, NDJSON: NDJSON, "b": ['"}}\n', "\r\n", "\u2028"]},
    "JSON in texts": {"a": '{"a":1}', "b": "[", "c": '"', "d": "\\", "e": "\\u0000", "f": "\\ud800"},
    "SQL in texts": {"'); DROP TABLE events; --": "'); DROP TABLE events; --", '"': "'"},
    "characters": {"😀": "😀\u202e\ufeff\uffff e\u0301\ue000\U0010ffff", "\u0130": "\u0131", "ß": "SS"},
    "nothing": {"a": None, "b": [], "c": {}, "d": "", "e": [None, [], {}], "f": False},
}

NOT_BY_A_NODE = {"big integers"}
"""Kept with events and sessions; a node that would write it fails, and its event says so."""

REFUSED: dict[str, tuple[bytes, int]] = {
    "half a pair": (b'{"a":"\\ud800"}', 400),
    "the other half": (b'{"a":"x\\udfffy"}', 400),
    "half a pair in a key": (b'{"\\udead":1}', 400),
    "no UTF-8": (b'{"a":"\xff\xfe"}', 400),
    "no number": (b'{"a":NaN}', 400),
    "beyond floats": (b'{"a":1e400}', 400),
    "5,000 digits": (b'{"a":' + b"9" * 5000 + b"}", 400),
    "depth 70": (json.dumps(nested(69)).encode(), 400),
    "depth 100,000": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
    "too large": (b'{"a":"' + b"x" * LIMIT + b'"}', 413),
    "a list": (b"[1]", 422),
    "a text": (b'"x"', 422),
    "cut off": (b'{"a":', 400),
    "two": (b"{} {}", 400),
}

IDS = {
    "256 characters of four bytes": (LONG_ID, 200),
    "257 characters": (LONG_ID + "x", 422),
    "a bulk's lines": (NDJSON + "x" + NDJSON, 422),
    "nul": ("a\0b", 422),
    "a slash and dots": ("../../_all/%2e%2e?x=1#y", 200),
    "quotes and brackets": ('"}}{"index":{"_id":"', 200),
    "an index's name": ("_all", 200),
    "the hex of a key": ("0123456789abcdef" * 2, 200),
    "a hash's sign": ("~" + "A" * 32, 200),
    "a star": ("*", 200),
    "__proto__": ("__proto__", 200),
    "marks of direction": ("a\u202eb\u200bc", 200),
    "decomposed": ("e\u0301", 200),
    "composed": ("é", 200),
}

TIMES = {
    "the last year": "9999-12-31T23:59:59Z",
    "the first year": "0001-01-01T00:00:00Z",
    "far in the east": "9999-12-31T23:59:59+00:01",
    "a leap day": "2024-02-29T12:00:00Z",
    "without a zone": "2026-01-01T00:00:00",
    "a day": "2026-01-01",
    "a week": "2026-W01-1",
}
NO_TIMES = (
    "yesterday",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-00:01",
    "2026-02-30",
    "2026-13-01T00:00:00Z",
    "1767225600",
    "\0",
    NDJSON,
    "+10000-01-01",
    "9" * 5000,
)

TYPES = ("\0", NDJSON, "__proto__", "a.b", "😀" * 128, "*", " x ", "_doc", '"', "page view", "\u2028x")


@dataclass
class Door:
    """A server's doors, and what is kept behind them."""

    client: httpx.AsyncClient
    store: Any

    def __post_init__(self) -> None:
        self._numbers = count()

    def next_id(self) -> str:
        return f"number {next(self._numbers)}"

    async def send(self, body: bytes | dict[str, Any]) -> httpx.Response:
        content = body if isinstance(body, bytes) else as_json(body)
        secret = {"authorization": "Bearer hush"}
        return await self.client.post("/track", content=content, headers=secret)

    async def get(self, path: str) -> httpx.Response:
        return await self.client.get(path, headers={"authorization": f"Bearer {ADMIN}"})

    async def event(self, id: str, source: str = "web") -> Any:
        """Return an event by its id, at once."""
        found = await self.get(f"/api/events/{quote(id, safe='')}?source={quote(source, safe='')}")
        assert found.status_code in (200, 404), found.text[:500]
        return found.json() if found.status_code == 200 else None

    async def list(self, **of: str) -> list[Any]:
        """Return the events of a question, as soon as there are any."""
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in of.items())
        ends = asyncio.get_running_loop().time() + SECONDS
        while True:
            found = await self.get(f"/api/events?{query}")
            assert found.status_code == 200, found.text[:500]
            if found.json()["items"] or asyncio.get_running_loop().time() > ends:
                return list(found.json()["items"])
            await asyncio.sleep(0.05)

    async def check_usual(self, session: str = "usual") -> None:
        """Look that a usual event works at once."""
        id = self.next_id()
        event = {"type": "x", "id": id, "properties": {"a": 1}}
        answer = await self.send({"source": {"id": "web"}, "session": {"id": session}, "events": [event]})
        assert answer.status_code == 200, answer.text[:500]
        found = await self.event(id)
        assert found is not None
        assert found["properties"] == {"a": 1}

    async def check_refused(self, answer: httpx.Response, status: int) -> None:
        """Look that an answer says clearly what is wrong."""
        assert answer.status_code == status, answer.text[:500]
        problem = answer.json()
        assert problem["code"]
        assert len(problem["detail"]) > 10
        assert len(answer.content) < 20_000
        if status == 422:
            assert problem["errors"], problem
            assert all(one["message"] for one in problem["errors"]), problem

    async def check_nothing_waits(self) -> None:
        """Look that a sweep leaves nothing behind."""
        if not isinstance(self.store, ElasticStore):
            return
        cluster = Cluster(self.store._cluster.place)
        bulk = Bulk(cluster)
        await refresh(cluster, f"{cluster.place.prefix}-*")
        await Sweeper(cluster, bulk, Settler(bulk)).sweep(timedelta(seconds=-1))
        await refresh(cluster, f"{cluster.place.prefix}-*")
        for kind in RECORDS:
            waits = {"query": {"exists": {"field": "pending_since"}}, "size": 3}
            path = f"/{alias(cluster.place, kind)}/_search?ignore_unavailable=true&allow_no_indices=true"
            assert (await cluster.ask_json("POST", path, waits))["hits"]["hits"] == []
        await cluster.close()


OpenDoor = Callable[[], AbstractAsyncContextManager[Door]]


@pytest.fixture(params=["sqlite", "elasticsearch"])
def open_door(request: pytest.FixtureRequest, tmp_path: Path) -> OpenDoor:
    """Return what starts an engine with its doors on a store."""
    url = "sqlite:" if request.param == "sqlite" else request.getfixturevalue("elastic_url")

    @asynccontextmanager
    async def opening() -> AsyncIterator[Door]:
        workspace = write_workspace(tmp_path / "workspace", FILES)
        store = open_store(url, data=tmp_path / "data")
        engine = make_engine(workspace, tmp_path / "data", store=store, body_limit_bytes=LIMIT)
        await engine.start()
        app = build_app(engine, Tokens(ADMIN, []))
        transport = httpx.ASGITransport(app, client=("192.0.2.7", 5000))
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
            assert await store.ready() == ""
            try:
                yield Door(client, store)
            finally:
                await engine.stop()

    return opening


def as_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def same(one: Any, other: Any) -> bool:
    """Say whether two values are the same JSON: 1 is not 1.0, and not true."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@pytest.mark.timeout(300)
async def test_properties_by_track(open_door: OpenDoor) -> None:
    async with open_door() as door:
        for name, properties in PROPERTIES.items():
            session, id = f"session of {name}", f"id of {name}"
            size = len(as_json(properties))
            body: dict[str, Any] = {
                "source": {"id": "web"},
                "session": {"id": session},
                "properties": properties if size < 200_000 else {},
                "context": {"of": properties} if size < 200_000 else {},
                "events": [
                    {"type": "keep", "id": id, "properties": properties},
                    # The same session and profile: what came before must not decide what may come now.
                    {"type": "x", "id": f"{id}, again", "properties": properties, "context": properties},
                ],
            }
            answer = await door.send(body)
            assert answer.status_code == 200, (name, answer.text[:500])
            for one in (id, f"{id}, again"):
                event = await door.event(one)
                assert event is not None, f"{name}: 200 and lost"
                assert same(event["properties"], properties), name
                refused = one == id and name in NOT_BY_A_NODE
                assert bool(event["errors"]) == refused, (name, event["errors"])
            assert same(event["context"], body["context"] | properties), name
            listed = await door.list(session=session, type="x")
            assert len(listed) == 1, name
            assert same(listed[0]["properties"], properties), name
            kept = (await door.get(f"/api/sessions/{quote(session, safe='')}")).json()
            assert same(kept["properties"], body["properties"]), name
            assert same(kept["context"], body["context"]), name
            profile = (await door.get(f"/api/profiles/{event['profile']}")).json()
            if name not in NOT_BY_A_NODE:
                assert same(profile["traits"].get("sent"), properties), name
            await door.check_usual(session)
            await door.check_usual()
        await door.check_nothing_waits()


@pytest.mark.timeout(300)
async def test_one_session_for_all_properties(open_door: OpenDoor) -> None:
    """Numbers where an object was, and the other way, in one session and one profile."""
    async with open_door() as door:
        for name, properties in PROPERTIES.items():
            event = {"type": "keep", "id": name, "properties": properties}
            body = {
                "source": {"id": "web"},
                "session": {"id": "one"},
                "properties": properties,
                "events": [event],
            }
            answer = await door.send(body)
            assert answer.status_code == 200, (name, answer.text[:500])
            assert same((await door.event(name))["properties"], properties), name
        await door.check_usual("one")
        await door.check_nothing_waits()
        ends = asyncio.get_running_loop().time() + SECONDS
        while len(listed := await door.list(session="one", limit="100")) <= len(PROPERTIES):
            assert asyncio.get_running_loop().time() < ends, "200 and lost"
        assert {event["id"] for event in listed} >= set(PROPERTIES)


@pytest.mark.timeout(300)
async def test_properties_by_collect(open_door: OpenDoor) -> None:
    async with open_door() as door:
        for number, (name, properties) in enumerate(PROPERTIES.items()):
            answer = await door.client.post(f"/collect/c{number}/web", content=as_json(properties))
            assert answer.status_code == 200, (name, answer.text[:500])
            event = await door.event(answer.json()["event"]["id"])
            assert event is not None, f"{name}: 200 and lost"
            assert same(event["properties"], properties), name
            listed = await door.list(type=f"c{number}")
            assert len(listed) == 1, name
            assert same(listed[0]["properties"], properties), name
        for number, (name, (raw, status)) in enumerate(REFUSED.items()):
            answer = await door.client.post(f"/collect/r{number}/web", content=raw)
            try:
                await door.check_refused(answer, status)
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from error
            await door.check_usual()
        await door.check_nothing_waits()
        kept = (await door.get("/api/events?limit=500")).json()["items"]
        assert not [event for event in kept if event["type"].startswith("r")], "refused and kept"


async def test_refused_by_track(open_door: OpenDoor) -> None:
    async with open_door() as door:
        for name, (raw, status) in REFUSED.items():
            id = f"id of {name}"
            event = {"type": "x", "id": id, "properties": "RAW"}
            good = {"type": "x", "id": f"{id}, good"}
            body = {"source": {"id": "web"}, "session": {"id": "refused"}, "events": [good, event]}
            if name == "two":
                continue
            answer = await door.send(as_json(body).replace(b'"RAW"', raw))
            try:
                await door.check_refused(answer, status)
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from error
            assert await door.event(id) is None, f"{name}: refused and kept"
            assert await door.event(f"{id}, good") is None, f"{name}: refused and kept"
            await door.check_usual()
        assert (await door.get("/api/sessions/refused")).status_code == 404
        await door.check_nothing_waits()


async def test_ids(open_door: OpenDoor) -> None:
    async with open_door() as door:
        for name, (id, status) in IDS.items():
            event = {"type": "x", "id": id, "properties": {"of": name}}
            body = {"source": {"id": "own"}, "session": {"id": id}, "profile": {"id": id}, "events": [event]}
            answer = await door.send(body)
            if status != 200:
                await door.check_refused(answer, status)
                pointers = {one["pointer"] for one in answer.json()["errors"]}
                assert pointers == {"/session/id", "/profile/id", "/events/0/id"}, name
                continue
            assert answer.status_code == 200, (name, answer.text[:500])
            assert answer.json()["profile"] == {"id": id}, name
            found = await door.event(id, "own")
            assert found is not None, name
            assert (found["id"], found["session"], found["profile"]) == (id, id, id), name
            for kind in ("sessions", "profiles"):
                kept = await door.get(f"/api/{kind}/{quote(id, safe='')}")
                assert kept.status_code == 200, (name, kind, kept.text[:300])
                assert kept.json()["id"] == id, name
            for question in ({"session": id}, {"profile": id}):
                (listed,) = await door.list(**question)
                assert listed["id"] == id, name
            # Sent again it is the same event.
            assert (await door.send(body)).status_code == 200
            assert (await door.event(id, "own")) == found, name
            await door.check_usual()
        await door.check_nothing_waits()


async def test_a_source_with_a_long_name(open_door: OpenDoor) -> None:
    async with open_door() as door:
        event = {"type": "x", "id": LONG_ID, "properties": {"a": 1}}
        body = {"source": {"id": LONG_ID}, "session": {"id": LONG_ID}, "events": [event]}
        assert (await door.send(body)).status_code == 200
        found = await door.event(LONG_ID, LONG_ID)
        assert (found["id"], found["source"]) == (LONG_ID, LONG_ID)
        assert [one["id"] for one in await door.list(source=LONG_ID)] == [LONG_ID]
        unknown = await door.send(body | {"source": {"id": LONG_ID[:-1]}})
        assert unknown.status_code == 401
        await door.check_refused(await door.send(body | {"source": {"id": NDJSON + "x" + NDJSON}}), 422)
        await door.check_nothing_waits()


async def test_times(open_door: OpenDoor) -> None:
    async with open_door() as door:
        for name, time in TIMES.items():
            event: dict[str, Any] = {"type": "x", "id": name, "time": time, "properties": {}}
            body = {"source": {"id": "web"}, "session": {"id": "times"}, "events": [event]}
            assert (await door.send(body)).status_code == 200, name
            kept = (await door.event(name))["time"]
            assert kept["claimed"] == time, name
            received, happened = (datetime.fromisoformat(kept[one]) for one in ("received", "happened"))
            assert abs(datetime.now(UTC) - received) < timedelta(minutes=5)
            assert timedelta(minutes=-5) <= received - happened <= timedelta(days=400), name
        for time in NO_TIMES:
            for member in ("time", "sentAt"):
                event = {"type": "x", "id": "no time"} | ({"time": time} if member == "time" else {})
                body = {"source": {"id": "web"}, "session": {"id": "no"}, "events": [event]}
                answer = await door.send(body | ({"sentAt": time} if member == "sentAt" else {}))
                await door.check_refused(answer, 422)
                pointer = "/events/0/time" if member == "time" else "/sentAt"
                assert [one["pointer"] for one in answer.json()["errors"]] == [pointer], time
        for sent_at in ("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"):
            event = {"type": "x", "id": sent_at, "time": "2026-01-01T00:00:00Z"}
            body = {"source": {"id": "web"}, "session": {"id": "times"}, "events": [event], "sentAt": sent_at}
            assert (await door.send(body)).status_code == 200
            assert (await door.event(sent_at))["time"]["claimed"] == "2026-01-01T00:00:00Z"
        assert await door.event("no time") is None
        await door.check_usual("times")
        await door.check_nothing_waits()


async def test_types(open_door: OpenDoor) -> None:
    async with open_door() as door:
        for number, type in enumerate(TYPES):
            event = {"type": type, "id": f"t{number}", "properties": {"n": number}}
            body = {"source": {"id": "web"}, "session": {"id": "types"}, "events": [event]}
            answer = await door.send(body)
            assert answer.status_code == 200, (type, answer.text[:500])
            assert (await door.event(f"t{number}"))["type"] == type
            assert [one["id"] for one in await door.list(type=type)] == [f"t{number}"], repr(type)
            await door.check_usual()
        others: list[Any] = ["", " ", "\u2028", "x" * 129, 1, None, {}]
        for other in others:
            body["events"] = [{"type": other, "id": "no type"}]
            await door.check_refused(await door.send(body), 422)
        assert await door.event("no type") is None
        await door.check_nothing_waits()
