"""A whole engine behind the app, on a small workspace."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace.api.app import build_app
from headrace.api.doors.gate import Gate
from headrace.api.tokens import Tokens
from headrace.engine.catalog import find_plugins
from headrace.engine.engine import Engine
from headrace.engine.files.watch import LiveWorkspace
from headrace.engine.settings import Settings
from headrace.engine.store.open import open_store
from tests.stores import Place, written

ADMIN, READ = "admin-token", "read-token"
SECRET = "backend-secret"

SOURCES: dict[str, Any] = {
    "web": {"about": "Public."},
    "chatty": {"answers_profile": True, "public_traits": ["name"], "consent": True, "debugger": True},
    "traits": {"public_traits": ["name"]},
    "backend": {"keys": [{"secret": "BACKEND_KEY"}], "trust_profile_ids": True},
    "closed": {"enabled": False},
    "shop-site": {"origins": ["https://shop.example"]},
    "collect-only": {"doors": ["collect"]},
    "slow": {"rate_limit": "2/minute"},
    "other": {"tenant": "other"},
    "frank": {"respect_dnt": False},
}
EVENT_TYPES = {
    "order": {
        "schema": {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}
    }
}
WORKFLOW = {
    "about": "Remember the product; say hello.",
    "on": {"event": ["purchase-order"]},
    "nodes": {
        "keep": {
            "plugin": "set_fields",
            "config": {
                "fields": {
                    "profile.traits.product": "{{ event.properties.product }}",
                    "profile.traits.name": "Ada",
                }
            },
            "then": {"done": ["vip", "hello"]},
        },
        "vip": {"plugin": "add_segment", "config": {"segment": "vip"}},
        "hello": {"plugin": "respond", "config": {"members": {"hello": "{{ event.properties.product }}"}}},
    },
}

COUPON = {
    "about": "Link a profile to an event that came without one, or make one.",
    "on": {"event": ["coupon-received"]},
    "nodes": {
        "empty": {"plugin": "respond", "config": {"members": {"empty": "{{ not profile }}"}}},
        "load": {
            "plugin": "load_profile",
            "config": {"id": "{{ event.properties.profile }}"},
            "then": {"found": ["keep"], "not_found": ["create"]},
        },
        "create": {"plugin": "create_profile", "then": {"done": ["visit"]}},
        "visit": {"plugin": "attach_session", "config": {"id": "{{ event.properties.visit }}"}},
        "keep": {
            "plugin": "set_fields",
            "config": {"fields": {"profile.traits.coupon": "{{ event.properties.coupon }}"}},
        },
    },
}


@dataclass
class Server:
    """The app with its engine, and a client that speaks to it."""

    client: httpx.AsyncClient
    engine: Engine
    gate: Gate
    live: LiveWorkspace
    app: Any
    place: Place

    async def track(self, body: Any = None, **more: Any) -> httpx.Response:
        """Post to /track; bytes as they are, else as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.client.post("/track", content=content, **more)

    async def read(
        self, path: str, token: str = ADMIN, method: str = "GET", json: Any = None
    ) -> httpx.Response:
        """Ask the read API, once it sees what was written."""
        await written(self.engine.parts.store)
        self.place.show()
        headers = {"authorization": f"Bearer {token}"}
        return await self.client.request(method, path, headers=headers, json=json)


def body_of(*types: str, source: str = "web", session: str = "s1", **more: Any) -> dict[str, Any]:
    """Return the body of a request with events of some types."""
    events = [{"type": name, "properties": {"product": "Nike shoes", "total": 1}} for name in types]
    return {"source": {"id": source}, "session": {"id": session}, "events": events, **more}


def write_workspace(path: Path) -> Path:
    """Write the workspace of these tests."""
    (path / "workflows").mkdir(parents=True)
    (path / "sources.json").write_text(json.dumps({"sources": SOURCES}))
    (path / "event_types.json").write_text(json.dumps({"event_types": EVENT_TYPES}))
    (path / "segments.json").write_text(json.dumps({"segments": {"vip": {}}}))
    (path / "workflows" / "remember.json").write_text(json.dumps(WORKFLOW))
    (path / "workflows" / "coupon.json").write_text(json.dumps(COUPON))
    return path


Opens = Callable[..., AbstractAsyncContextManager[Server]]


@pytest.fixture
def open_server(tmp_path: Path, room: Place) -> Opens:
    """Return what starts an engine with settings of one's own, and an app before it."""

    @asynccontextmanager
    async def opened(
        tokens: Tokens | None = None, client: str = "192.0.2.7", **settings: Any
    ) -> AsyncIterator[Server]:
        workspace = write_workspace(tmp_path / "workspace")
        secrets = {"BACKEND_KEY": SECRET}.get
        live = LiveWorkspace(workspace, find_plugins(), secrets)
        assert not [str(problem) for problem in live.refused]
        chosen = Settings.load({}, workspace=workspace, data=tmp_path / "data", **settings)
        engine = Engine(chosen, open_store(room.url, data=tmp_path / "data"), live, secrets)
        await engine.start()
        gate = Gate(chosen)
        app = build_app(engine, tokens or Tokens(ADMIN, [READ]), gate)
        transport = httpx.ASGITransport(app, client=(client, 5000))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            yield Server(http, engine, gate, live, app, room)
        await engine.stop()

    return opened


@pytest.fixture
async def server(open_server: Opens) -> AsyncIterator[Server]:
    """Return a server with the usual settings."""
    async with open_server() as running:
        yield running


@pytest.fixture
def start(tmp_path: Path, place: Place) -> Iterator[Any]:
    """Return what starts a server process."""
    # It needs what stands in this file.
    from tests.api.server_process import Process  # noqa: PLC0415

    started: list[Process] = []

    def begin(slow: float = 0, **environ: str) -> Process:
        started.append(Process(tmp_path, slow, **{"HEADRACE_STORE": place.url} | environ))
        return started[-1]

    yield begin
    for process in started:
        process.end()
