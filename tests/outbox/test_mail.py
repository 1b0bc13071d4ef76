"""Mails: handed to a server, refused, tried again."""

from typing import Any

import pytest

from headrace.engine.calls.mail import Mailer, make_message, read_smtp
from headrace.engine.errors import CallError
from tests.outbox.smtp import mail_server

MAIL: dict[str, Any] = {
    "to": ["Kim <kim@example.org>"],
    "bcc": ["copy@example.org"],
    "subject": "Thank you, Kæm",
    "text": "Hello\n.\nKim",
}


async def test_a_mail_reaches_the_server() -> None:
    async with mail_server() as server:
        mailer = Mailer(f"smtp+plain://user@127.0.0.1:{server.port}", "pass", "Shop <shop@example.org>")
        await mailer.send(MAIL | {"html": "<b>Hello</b>"}, key="k1", seconds=5)
    ((sender, recipients, text),) = server.mails
    assert (sender, recipients) == ("shop@example.org", ["kim@example.org", "copy@example.org"])
    assert "Message-ID: <k1@headrace>" in text
    assert "copy@example.org" not in text
    assert "text/html" in text
    assert "=?utf-8?" in text


@pytest.mark.parametrize(
    ("says", "again"),
    [
        ({"RCPT": "550 no such user"}, False),
        ({"RCPT": "450 come again"}, True),
        ({"MAIL": "554 spam"}, False),
        ({"DATA": "451 later"}, True),
        ({"AUTH": "535 wrong pass of user"}, True),
        ({"EHLO": "421 busy", "HELO": "421 busy"}, True),
    ],
)
async def test_a_refused_mail_says_why(says: dict[str, str], again: bool) -> None:
    async with mail_server() as server:
        server.says = says
        mailer = Mailer(f"smtp+plain://user@127.0.0.1:{server.port}", "pass", "shop@example.org")
        with pytest.raises(CallError) as raised:
            await mailer.send(MAIL, key="k", seconds=5)
    assert raised.value.retryable is again
    assert "pass" not in raised.value.reason
    assert server.mails == []


async def test_without_a_server_a_mail_waits() -> None:
    for mailer in (Mailer("", None, "a@b.c"), Mailer("smtp+plain://127.0.0.1:1", None, "a@b.c")):
        with pytest.raises(CallError) as raised:
            await mailer.send(MAIL, key="k", seconds=5)
        assert raised.value.retryable


@pytest.mark.parametrize(
    "mail",
    [
        MAIL | {"subject": "a\r\nBcc: x@y.z"},
        MAIL | {"to": ["a@b.c\nBcc: x@y.z"]},
        MAIL | {"to": ["nobody"]},
        MAIL | {"to": []} | {"bcc": []},
        MAIL | {"from": "a b@c"},
    ],
)
def test_what_is_no_mail_never_leaves(mail: dict[str, Any]) -> None:
    with pytest.raises(CallError) as raised:
        make_message(mail, "k", "shop@example.org")
    assert not raised.value.retryable


def test_a_mail_needs_a_sender() -> None:
    with pytest.raises(CallError, match="HEADRACE_MAIL_FROM"):
        make_message(MAIL, "k", "")


def test_the_url_of_a_server() -> None:
    assert read_smtp("smtp://mail.example") == ("smtp", "mail.example", 587, "")
    assert read_smtp("smtps://me%40shop@mail.example") == ("smtps", "mail.example", 465, "me@shop")
    assert read_smtp("smtp+plain://[::1]:2525/") == ("smtp+plain", "::1", 2525, "")
    for bad in ("mail.example", "http://mail.example", "smtp://u:p@mail.example", "smtp://a:x", "smtp://a/b"):
        with pytest.raises(ValueError, match=r"."):
            read_smtp(bad)
