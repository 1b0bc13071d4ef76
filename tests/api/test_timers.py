"""Timers by HTTP: listed, read, cancelled."""

from headrace.engine.model import Doc, iso, make_key, new_id, utc_now
from headrace.engine.store.protocol import Change, Row
from tests.api.conftest import ADMIN, READ, Opens, Server


async def put(server: Server, name: str, **members: object) -> str:
    """Keep a run that waits and return its path."""
    key = make_key("timer", name)
    now = iso(utc_now())
    doc: Doc = {
        "id": key,
        "kind": "run",
        "tenant": "main",
        "event": make_key("event", name),
        "profile": None,
        "workflow": "w",
        "status": "pending",
        "created": now,
        "due": now,
        "held": {"wait": {"due": now, "port": "done", "result": {"a": "secret"}}},
        "input": {"properties": {"a": "secret"}},
    }
    await server.engine.store.commit(Change(new_id(), "main", timers=[Row(key, doc | members)]))
    return f"/api/timers/{key}"


async def test_timers_are_read(open_server: Opens) -> None:
    async with open_server(timers=False) as server:
        path = await put(server, "a")
        found = (await server.read(path)).json()
        assert (found["status"], list(found["held"])) == ("pending", ["wait"])
        assert "secret" not in str(found)
        (listed,) = (await server.read(f"/api/timers?status=pending&event={found['event']}")).json()["items"]
        assert listed == found
        assert (await server.read("/api/timers?status=fired")).json()["items"] == []
        assert (await server.read(f"{path}?tenant=other")).status_code == 404
        assert (await server.read("/api/timers/none")).json()["code"] == "no_timer"


async def test_a_run_is_cancelled_by_the_admin(open_server: Opens) -> None:
    async with open_server(timers=False) as server:
        path = await put(server, "a")
        answer = await server.read(f"{path}/cancel", token=READ, method="POST")
        assert (answer.status_code, answer.json()["code"]) == (403, "admin_only")
        done = await server.read(f"{path}/cancel", token=ADMIN, method="POST")
        assert (done.status_code, done.json()["status"]) == (200, "cancelled")
        again = await server.read(f"{path}/cancel", method="POST")
        assert (again.status_code, again.json()["code"]) == (409, "is_over")
        assert (await server.read("/api/timers/none/cancel", method="POST")).status_code == 404
        wake = await put(server, "b", kind="wake", node="wait")
        answer = await server.read(f"{wake}/cancel", method="POST")
        assert (answer.status_code, answer.json()["code"]) == (409, "is_wake")
        merge = await put(server, "d", kind="merge")
        answer = await server.read(f"{merge}/cancel", method="POST")
        assert (answer.status_code, answer.json()["code"]) == (409, "is_merge")
        tick = await put(server, "c", kind="tick")
        assert (await server.read(f"{tick}/cancel", method="POST")).json()["status"] == "cancelled"
