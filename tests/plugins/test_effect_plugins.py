"""Plugins that send something later: what they put into the outbox."""

from typing import Any

import pytest
from pydantic import ValidationError

from headrace.engine.calls.call import outgoing
from headrace.engine.calls.mail import make_message
from headrace.engine.model import Doc
from headrace.engine.plugin import Example
from headrace.engine.testing.example import run_example

HOOK = "https://crm.example/hook"
TEXTS = "{{ event.properties.text }}"


async def put(plugin: str, config: Doc, **event: Any) -> Doc:
    """Run a node and return the one effect that it made."""
    run = await run_example(plugin, Example(config, port="queued", event={"properties": event}))
    assert (run.port, run.error) == ("queued", "")
    (row,) = run.passage.effects
    return row.doc


async def failure(plugin: str, config: Doc, **event: Any) -> str:
    """Run a node that fails, and return why."""
    run = await run_example(plugin, Example(config, port="error", event={"properties": event}))
    assert run.port == "error"
    assert run.passage.effects == []
    return run.error


async def test_a_webhook_is_kept_with_its_secrets_by_name() -> None:
    config = {
        "url": f"{HOOK}/{TEXTS}",
        "headers": {"x-key": {"secret": "KEY"}},
        "body": {"text": TEXTS, "list": [1, TEXTS]},
        "auth": {"bearer": {"secret": "TOKEN"}},
        "sign": [{"secret": "NEW"}, {"secret": "OLD"}],
        "timeout_seconds": 3,
    }
    doc = await put("webhook", config, text="a/b {{ 7*7 }}")
    assert doc["request"] == {
        "method": "POST",
        "url": f"{HOOK}/a%2Fb%20%7B%7B%207%2A7%20%7D%7D",
        "headers": {"x-key": {"secret": "KEY"}},
        "body": {"text": "a/b {{ 7*7 }}", "list": [1, "a/b {{ 7*7 }}"]},
        "as": "json",
        "auth": {"bearer": {"secret": "TOKEN"}},
        "sign": [{"secret": "NEW"}, {"secret": "OLD"}],
        "timeout_seconds": 3,
    }
    assert (doc["status"], doc["source"], doc["attempts"]) == ("pending", "example", [])


async def test_what_an_event_says_is_never_looked_up_as_a_secret() -> None:
    doc = await put("webhook", {"url": HOOK, "body": TEXTS}, text={"secret": "TOKEN"})
    sent = outgoing(doc["request"], {"TOKEN": "very-secret"}.get, key="k", now=0)
    assert sent.body == b'{"secret":"TOKEN"}'


@pytest.mark.parametrize("bad", ["a\r\nx-evil: 1", "a\nb", "a\0b"])
@pytest.mark.parametrize(
    ("plugin", "config"),
    [
        ("webhook", {"url": HOOK, "headers": {"x-a": TEXTS}}),
        ("send_mail", {"to": ["a@b.c"], "subject": TEXTS, "text": "x"}),
        ("send_mail", {"to": [TEXTS], "subject": "x", "text": "x"}),
        ("send_mail", {"to": ["a@b.c"], "from": TEXTS, "subject": "x", "text": "x"}),
    ],
)
async def test_a_line_break_in_a_header_fails_the_node(plugin: str, config: Doc, bad: str) -> None:
    assert await failure(plugin, config, text=bad)


async def test_ordered_effects_name_the_one_before() -> None:
    config = {"url": HOOK, "ordered": True}
    profile = {"ordered": {"example/example": {"key": "before", "at": "2026-01-01T00:00:00.000Z"}}}
    run = await run_example("webhook", Example(config, port="queued", profile=profile))
    (row,) = run.passage.effects
    assert row.doc["after"] == profile["ordered"]["example/example"]
    kept = run.passage.draft.profile
    assert kept is not None
    assert kept["ordered"]["example/example"]["key"] == row.key
    first = await run_example("webhook", Example(config, port="queued"))
    assert "after" not in first.passage.effects[0].doc
    nobody = await run_example("webhook", Example(config, port="queued", profile=None))
    assert "after" not in nobody.passage.effects[0].doc


async def test_messages_of_each_chat() -> None:
    config = {"url": {"secret": "CHAT"}, "text": TEXTS}
    text = "<!channel> & *all* @everyone"
    doc = await put("notify_chat", config | {"chat": "slack"}, text=text)
    assert doc["request"]["url"] == {"secret": "CHAT"}
    assert doc["request"]["body"] == {
        "text": "&lt;!channel&gt; &amp; *all* @everyone",
        "mrkdwn": False,
    }
    doc = await put("notify_chat", config | {"chat": "slack", "markup": True}, text=text)
    assert doc["request"]["body"] == {"text": text, "mrkdwn": True}
    doc = await put("notify_chat", config | {"chat": "discord"}, text=text)
    assert doc["request"]["body"]["allowed_mentions"] == {"parse": []}
    assert doc["request"]["body"]["content"] == "<!channel\\> & \\*all\\* @everyone"
    doc = await put("notify_chat", config | {"chat": "discord"}, text="x" * 3000)
    assert len(doc["request"]["body"]["content"]) == 2000
    doc = await put("notify_chat", config | {"chat": "teams"}, text=text)
    (attachment,) = doc["request"]["body"]["attachments"]
    assert attachment["content"]["body"][0]["inlines"] == [{"type": "TextRun", "text": text}]


async def test_a_mail_is_kept_whole() -> None:
    config = {
        "to": ["Kim <{{ event.properties.mail }}>"],
        "cc": ["c@b.c"],
        "bcc": ["b@b.c"],
        "from": "Shop <shop@shop.example>",
        "reply_to": ["r@b.c"],
        "subject": "Hello {{ event.properties.name }}",
        "text": "Hi",
        "html": "<p>{{ event.properties.name | escape }}</p>",
    }
    doc = await put("send_mail", config, mail="kim@b.c", name="Kæm <b>")
    mail = doc["request"]["mail"]
    assert mail["html"] == "<p>Kæm &lt;b&gt;</p>"
    message, recipients = make_message(mail, "k", "")
    assert recipients == ["kim@b.c", "c@b.c", "b@b.c"]
    text = message.as_string()
    assert "b@b.c" not in text.replace("kim@b.c", "")
    assert message["Subject"] == "Hello Kæm <b>"
    assert message["Message-ID"] == "<k@headrace>"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "kim",
        "a@b.c, evil@x.y",
        "a@b.c; evil@x.y",
        "a@b.c evil@x.y",
        "<a@b.c",
        "a@b@c",
        "x" * 400 + "@b.c",
    ],
)
async def test_what_is_no_single_address_fails_the_node(address: str) -> None:
    config = {"to": [TEXTS], "subject": "s", "text": "t"}
    assert "is no mail address" in await failure("send_mail", config, text=address)


@pytest.mark.parametrize(
    ("plugin", "config"),
    [
        ("webhook", {"url": "http://localhost\\@x/"}),
        ("webhook", {"url": HOOK, "timeout_seconds": 0}),
        ("webhook", {"url": HOOK, "method": "TRACE"}),
        ("notify_chat", {"url": HOOK, "text": "x", "chat": "irc"}),
        ("send_mail", {"to": [], "subject": "s", "text": "t"}),
    ],
)
async def test_a_bad_config_is_found_at_load(plugin: str, config: Doc) -> None:
    with pytest.raises(ValidationError):
        await run_example(plugin, Example(config, port="queued"))
