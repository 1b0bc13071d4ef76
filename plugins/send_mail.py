"""Send a mail when the event is kept, until it is taken.

The mail goes to the server of the setting `HEADRACE_SMTP`, with the password of `HEADRACE_SMTP_PASSWORD`. It is kept
together with what the event changed and sent after that, as `webhook` does; its Message-ID stays the same. A mail that
the server refuses for good (5xx) is dead.

Values in the addresses and the subject cannot add a header or a recipient: the node fails instead. In `html`, write
`{{ value | escape }}` for what a visitor wrote.
"""

import re
from typing import Any

from pydantic import Field

from headrace.engine.plugin import Config, Example, Header, NodeError, Out, Plugin, Step, Text

_ADDRESS = r"[^\s<>\",;:@()\[\]\\]+@[^\s<>\",;:@()\[\]\\]+"
_MAILBOX = re.compile(rf'{_ADDRESS}|(?:[^<>",;:@()\[\]\\]*|"[^"\\]*") ?<{_ADDRESS}>')


class SendMailConfig(Config):
    to: list[Header] = Field(
        min_length=1,
        max_length=50,
        description="Who gets it: an address each, with or without a name.",
        examples=[["{{ profile.traits.email }}"], ["Sales <sales@shop.example>"]],
    )
    cc: list[Header] = Field([], max_length=50, description="Who gets a copy.")
    bcc: list[Header] = Field([], max_length=50, description="Who gets a copy that the others do not see.")
    sender: Header | None = Field(
        None, alias="from", description="Who sends it. Left out: the setting `HEADRACE_MAIL_FROM`."
    )
    reply_to: list[Header] = Field([], max_length=10, description="Who gets an answer.")
    subject: Header = Field(description="The subject.", examples=["Thank you, {{ profile.traits.name }}"])
    text: Text = Field(
        description="The text.", examples=["Your order {{ event.properties.id }} is on its way."]
    )
    html: Text | None = Field(None, description="The same as HTML, for those who show it.")
    ordered: bool = Field(default=False, description="Mails of this node for one profile keep their order.")


class SendMail(Plugin[SendMailConfig]):
    ports = {"queued": "The mail is kept, and sent when the event is."}
    examples = (
        Example(
            {
                "to": ["{{ profile.traits.email }}"],
                "subject": "Thank you, {{ profile.traits.name }}",
                "text": "Your order {{ event.properties.id }} is on its way.",
            },
            port="queued",
            profile={"traits": {"email": "kim@example.org", "name": "Kim"}},
            event={"properties": {"id": "o-1"}},
        ),
        Example(
            {"to": ["{{ profile.traits.email }}"], "subject": "Hello", "text": "Hello"},
            port="error",
            about="What stands there is no address",
            profile={"traits": {"email": "kim"}},
            result={"error": "to: 'kim' is no mail address"},
        ),
    )

    def run(self, step: Step) -> Out:
        config = self.config
        mail: dict[str, Any] = {"subject": step.value(config.subject), "text": step.value(config.text)}
        for name in ("to", "cc", "bcc", "reply_to"):
            if fields := getattr(config, name):
                mail[name] = [mailbox(step.value(field), name) for field in fields]
        if config.sender is not None:
            mail["from"] = mailbox(step.value(config.sender), "from")
        if config.html is not None:
            mail["html"] = step.value(config.html)
        step.effect({"mail": mail}, ordered=config.ordered)
        return Out("queued")


def mailbox(text: str, where: str) -> str:
    """Return an address, with or without a name. Raises NodeError for what is none, or more than one."""
    text = text.strip()
    if len(text) > 320 or not _MAILBOX.fullmatch(text):
        raise NodeError(f"{where}: {text[:100]!r} is no mail address")
    return text
