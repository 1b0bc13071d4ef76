"""The steps before the workflows: times, who may send, what is not wanted."""

from datetime import UTC, datetime
from typing import Any

import pytest

from headrace.engine.errors import InputError
from headrace.engine.model import Caller, EventInput, iso, make_key
from headrace.engine.steps.enrich import page, shown_address
from tests.conftest import OpenLab
from tests.makers import Files, chain, count, sources

COUNT: Files = {"count": chain("*", count())}


# Times

RECEIVED = datetime(2026, 1, 15, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("time", "sent_at", "happened"),
    [
        (None, None, "2026-01-15T12:00:00.000Z"),
        ("2026-01-15T11:59:00Z", None, "2026-01-15T11:59:00.000Z"),
        ("2026-01-15T13:59:00+02:00", None, "2026-01-15T11:59:00.000Z"),
        ("2026-01-15T11:59:00.123456", None, "2026-01-15T11:59:00.123Z"),
        ("2026-01-15", None, "2026-01-15T00:00:00.000Z"),
        # The client's clock is an hour ahead.
        ("2026-01-15T12:59:00Z", "2026-01-15T13:00:00Z", "2026-01-15T11:59:00.000Z"),
        # Ahead, behind, and far from anything.
        ("2026-01-15T12:04:59Z", None, "2026-01-15T12:04:59.000Z"),
        ("2026-01-15T12:06:00Z", None, "2026-01-15T12:05:00.000Z"),
        ("9999-12-31T23:59:59Z", None, "2026-01-15T12:05:00.000Z"),
        ("2020-01-01T00:00:00Z", None, "2024-12-11T12:00:00.000Z"),
        ("0001-01-01T00:00:00Z", None, "2024-12-11T12:00:00.000Z"),
        ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2024-12-11T12:00:00.000Z"),
        ("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2026-01-15T12:05:00.000Z"),
        ("2026-01-15T12:00:00Z", "0001-01-01T00:00:00Z", "2026-01-15T12:05:00.000Z"),
        ("2026-01-15T12:00:00Z", "9999-12-31T23:59:59Z", "2024-12-11T12:00:00.000Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z", "2026-01-15T12:00:00.000Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "2026-01-15T12:00:00.000Z"),
    ],
)
async def test_times(open_lab: OpenLab, time: str | None, sent_at: str | None, happened: str) -> None:
    async with open_lab() as lab:
        await lab.track(EventInput("x", time=time), received=RECEIVED, sent_at=sent_at)
        found = (await lab.one("event"))["time"]
        assert (found["happened"], found["received"]) == (happened, iso(RECEIVED))
        assert found.get("claimed") == time


@pytest.mark.parametrize(
    "time", ["yesterday", "", "12:00", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00", "\0"]
)
@pytest.mark.parametrize("member", ["time", "sent_at"])
async def test_a_time_that_cannot_be_read_refuses_the_request(
    open_lab: OpenLab, time: str, member: str
) -> None:
    async with open_lab() as lab:
        bad = EventInput("x", time=time if member == "time" else None)
        with pytest.raises(InputError) as caught:
            await lab.track("good", bad, sent_at=time if member == "sent_at" else None)
        assert caught.value.status == 422
        assert caught.value.fields[0].pointer == ("/events/1/time" if member == "time" else "/sentAt")
        assert not any((await lab.rows()).values())


# Who may send


@pytest.mark.requirement("004-14")
@pytest.mark.parametrize(
    ("words", "status"),
    [
        ({"source": "nobody"}, 401),
        ({"source": "off"}, 401),
        ({"source": "keyed"}, 401),
        ({"source": "keyed", "caller": Caller(secret="wrong")}, 401),
        ({"source": "shop", "door": "segment"}, 403),
        ({"source": "site", "caller": Caller(origin="https://evil.example")}, 403),
    ],
)
async def test_who_may_not_send(open_lab: OpenLab, words: dict[str, Any], status: int) -> None:
    files = {
        "sources.json": sources(
            shop={},
            off={"enabled": False},
            keyed={"keys": [{"secret": "SHOP_KEY"}]},
            site={"origins": ["https://shop.example"]},
        )
    }
    async with open_lab(files) as lab:
        with pytest.raises(InputError) as caught:
            await lab.track("x", **words)
        assert caught.value.status == status
        assert not any((await lab.rows()).values())
        await lab.track("x", source="keyed", caller=Caller(secret="hush"))
        await lab.track("x", source="site", caller=Caller(origin="https://shop.example"))


async def test_a_rate_limit_is_per_source(open_lab: OpenLab) -> None:
    async with open_lab({"sources.json": sources(shop={"rate_limit": "2/minute"}, other={})}) as lab:
        for _ in range(2):
            await lab.track("x")
        with pytest.raises(InputError) as caught:
            await lab.track("x")
        assert caught.value.status == 429
        assert 1 <= (caught.value.retry_after_seconds or 0) <= 60
        await lab.track("x", source="other")
        assert len(await lab.all("event")) == 3


GOOGLE = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


@pytest.mark.parametrize(
    ("caller", "why"),
    [
        (Caller(do_not_track=True), "dnt"),
        (Caller(user_agent=GOOGLE), "bot"),
        (Caller(user_agent="Mozilla/5.0"), ""),
    ],
)
async def test_nothing_is_kept_of_those_who_do_not_want_it(
    open_lab: OpenLab, caller: Caller, why: str
) -> None:
    async with open_lab({"sources.json": sources(shop={"bots": "drop"})}) as lab:
        answer = await lab.track("x", caller=caller)
        assert answer.not_kept == why
        assert any((await lab.rows()).values()) == (why == "")
        assert (answer.profile is None) == (why != "")


async def test_bots_are_marked_and_addresses_masked(open_lab: OpenLab) -> None:
    async with open_lab() as lab:
        await lab.track(
            "x", caller=Caller(ip="192.0.2.77", user_agent=GOOGLE, referrer="https://shop.example/a?b")
        )
        event = await lab.one("event")
        assert event["device"] == {"ip": "192.0.2.0", "bot": True}
        assert event["page"] == {"url": "https://shop.example/a?b", "path": "/a"}


@pytest.mark.requirement("004-51")
async def test_the_source_says_whether_consent_is_wanted(open_lab: OpenLab) -> None:
    async with open_lab({"sources.json": sources(shop={"consent": True}, other={})}) as lab:
        assert (await lab.track("x")).consent is True
        assert (await lab.track("x", source="other")).consent is False


# What an event's document tells


@pytest.mark.parametrize(
    ("address", "rule", "shown"),
    [
        ("192.0.2.77", "mask", "192.0.2.0"),
        ("192.0.2.77", "keep", "192.0.2.77"),
        ("192.0.2.77", "drop", None),
        ("2001:db8:1:2:3:4:5:6", "mask", "2001:db8:1::"),
        ("2001:db8:1:2:3:4:5:6", "keep", "2001:db8:1:2:3:4:5:6"),
        ("::ffff:192.0.2.77", "mask", "192.0.2.0"),
        ("fe80::1%eth0", "mask", "fe80::"),
        ("unknown", "keep", None),
        ("", "mask", None),
        (None, "keep", None),
    ],
)
def test_addresses_are_shown_as_the_source_says(address: str | None, rule: str, shown: str | None) -> None:
    assert shown_address(address, rule) == shown


@pytest.mark.parametrize(
    ("context", "referrer", "expected"),
    [
        ({}, None, {}),
        ({}, "https://shop.example/a/b?c#d", {"url": "https://shop.example/a/b?c#d", "path": "/a/b"}),
        (
            {"page": "https://shop.example"},
            "https://other.example",
            {"url": "https://shop.example", "path": "/"},
        ),
        ({"page": {"url": "/a", "title": "A", "other": 1}}, None, {"url": "/a", "title": "A", "path": "/a"}),
        ({"page": {"url": 5, "path": "/p"}}, "https://other.example", {"path": "/p"}),
        ({"page": [1]}, None, {}),
        ({"page": None}, "https://shop.example/x", {"url": "https://shop.example/x", "path": "/x"}),
        ({"page": "http://[broken"}, None, {"url": "http://[broken", "path": "/"}),
    ],
)
def test_the_page_of_an_event(
    context: dict[str, Any], referrer: str | None, expected: dict[str, str]
) -> None:
    assert page(context, referrer) == expected


@pytest.mark.requirement("004-3")
async def test_the_document_of_an_event(open_lab: OpenLab) -> None:
    async with open_lab() as lab:
        await lab.track(
            EventInput("x", {"a": 1}, {"b": 2}, id="e1", time="2026-01-15T11:00:00Z"), received=RECEIVED
        )
        event = await lab.one("event")
        profile = await lab.one("profile")
        assert event["time"].pop("processed") >= "2026"
        assert event == {
            "id": "e1",
            "key": make_key("event", "main", "shop", "e1"),
            "type": "x",
            "properties": {"a": 1},
            "context": {"b": 2},
            "source": "shop",
            "tenant": "main",
            "session": "s1",
            "profile": profile["id"],
            "profile_by": "new",
            "time": {
                "happened": "2026-01-15T11:00:00.000Z",
                "received": iso(RECEIVED),
                "claimed": "2026-01-15T11:00:00Z",
            },
            "door": "track",
            "device": {},
            "page": {},
            "utm": {},
            "runs": [],
            "errors": [],
            "content": event["content"],
        }


@pytest.mark.requirement("004-25")
@pytest.mark.parametrize(("kind", "views"), [("page-view", 1), ("page", 1), ("x", 0)])
async def test_what_counts_as_a_view(open_lab: OpenLab, kind: str, views: int) -> None:
    async with open_lab() as lab:
        await lab.track(kind)
        assert (await lab.one("session"))["stats"] == {"events": 1, "views": views}
        assert (await lab.one("profile"))["stats"] == {"visits": 1, "views": views, "counters": {}}
