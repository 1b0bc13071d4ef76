"""Effects by HTTP: listed, read, sent again, dropped."""

import asyncio
from typing import Any

import pytest

from headrace.engine.model import make_key, new_id
from headrace.engine.store.protocol import Change
from tests.api.conftest import ADMIN, READ, Opens, Server, body_of
from tests.outbox.conftest import effect
from tests.outbox.smtp import mail_server

DEAD: Any = {"status": "dead", "reason": "status 404", "tries": 1}


async def put(server: Server, name: str, host: str = "one.example", **members: Any) -> str:
    """Keep an effect and return its path."""
    await server.engine.store.commit(Change(new_id(), "main", effects=[effect(name, host, **members)]))
    return f"/api/effects/{make_key('effect', name)}"


async def test_effects_are_read(open_server: Opens) -> None:
    async with open_server(outbox=False) as server:
        path = await put(server, "a", **DEAD)
        found = (await server.read(path)).json()
        assert (found["status"], found["host"]) == ("dead", "one.example")
        (listed,) = (await server.read("/api/effects?status=dead&profile=p")).json()["items"]
        assert listed == found
        assert (await server.read("/api/effects?status=sent")).json()["items"] == []
        assert (await server.read(f"{path}?tenant=other")).status_code == 404
        assert (await server.read("/api/effects/none")).json()["code"] == "no_effect"


async def test_an_effect_is_sent_again_and_dropped_by_the_admin(open_server: Opens) -> None:
    async with open_server(outbox=False) as server:
        path = await put(server, "a", **DEAD)
        for deed in ("resend", "drop"):
            answer = await server.read(f"{path}/{deed}", token=READ, method="POST")
            assert (answer.status_code, answer.json()["code"]) == (403, "admin_only")
        again = await server.read(f"{path}/resend", token=ADMIN, method="POST")
        assert (again.status_code, again.json()["status"], again.json()["tries"]) == (200, "pending", 0)
        gone = await server.read(f"{path}/drop", method="POST")
        assert (gone.status_code, gone.json()["status"]) == (200, "dropped")
        sent = await put(server, "b", status="sent")
        answer = await server.read(f"{sent}/drop", method="POST")
        assert (answer.status_code, answer.json()["code"]) == (409, "was_sent")
        assert (await server.read("/api/effects/none/resend", method="POST")).status_code == 404
        assert (await server.read(f"{path}/resend?tenant=other", method="POST")).status_code == 404


async def until_dead(server: Server, path: str) -> Any:
    """Wait until an effect is dead, and return it."""
    async with asyncio.timeout(30):
        while (found := (await server.read(path)).json())["status"] != "dead":  # noqa: ASYNC110 - over HTTP
            await asyncio.sleep(0.05)
    return found


async def test_a_refused_address_is_dead_and_tells_why(server: Server) -> None:
    path = await put(server, "a", "127.0.0.1:9", profile=None)
    found = await until_dead(server, path)
    assert "refused" in found["reason"]
    (event,) = (await server.read("/api/events?type=webhook-dead")).json()["items"]
    assert event["door"] == "internal"
    assert event["properties"]["effect"] == found["id"]
    assert event["properties"]["reason"] == found["reason"]
    metrics = (await server.client.get("/metrics")).text
    assert 'headrace_effect_attempts_total{host="127.0.0.1:9",outcome="dead"} 1.0' in metrics
    assert "headrace_effects_pending" in metrics


@pytest.mark.parametrize(("depth", "told"), [(None, 1), (2, 3), (3, None)])
async def test_dead_effects_of_dead_effects_are_told_three_deep(
    server: Server, depth: int | None, told: int | None
) -> None:
    context = {} if depth is None else {"webhook_dead": {"depth": depth}}
    sent = await server.track(body_of("a", session="s", context=context))
    assert sent.status_code == 200
    (event,) = (await server.read("/api/events?type=a")).json()["items"]
    profile = sent.json()["profile"]["id"]
    path = await put(server, "x", "127.0.0.1:9", event=event["key"], profile=profile)
    await until_dead(server, path)
    found = (await server.read("/api/events?type=webhook-dead")).json()["items"]
    assert [one["context"]["webhook_dead"]["depth"] for one in found] == [told] * (told is not None)
    assert all(one["profile"] == profile for one in found)


async def test_a_dead_effect_of_an_erased_profile_or_source_harms_nobody(server: Server) -> None:
    gone = await put(server, "a", "127.0.0.1:9", profile="erased")
    await until_dead(server, gone)
    (event,) = (await server.read("/api/events?type=webhook-dead")).json()["items"]
    assert event["profile"] is None
    nobody = await put(server, "b", "127.0.0.1:9", source="removed")
    await until_dead(server, nobody)
    assert len((await server.read("/api/events?type=webhook-dead")).json()["items"]) == 1


async def test_a_mail_goes_to_the_server_of_the_settings(open_server: Opens) -> None:
    async with mail_server() as mails:
        settings: Any = {"smtp": f"smtp+plain://me@127.0.0.1:{mails.port}", "smtp_password": "mail-password"}
        async with open_server(mail_from="shop@shop.example", **settings) as server:
            request = {"mail": {"to": ["kim@example.org"], "subject": "Hello", "text": "Hello Kim"}}
            path = await put(server, "m", request=request)
            async with asyncio.timeout(30):
                while (found := (await server.read(path)).json())["status"] != "sent":  # noqa: ASYNC110 - over HTTP
                    await asyncio.sleep(0.05)
    ((sender, recipients, text),) = mails.mails
    assert (sender, recipients, found["host"]) == ("shop@shop.example", ["kim@example.org"], "mail")
    assert f"Message-ID: <{found['id']}@headrace>" in text
    assert "mail-password" not in str(found)
