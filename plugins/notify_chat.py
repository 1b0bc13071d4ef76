"""Post a message to a chat: Slack, Teams, Discord, or one alike.

The address is that of an incoming webhook, which the chat gives you; who knows it may post, so it is best named as a
secret. The message is sent after the event is kept, and again until it arrives, as `webhook` does.

What an event says cannot ring everybody: unless `markup` is on, signs that have a meaning for the chat are written as
they are, and nobody is mentioned.
"""

from typing import Any, Literal

from pydantic import Field

from headrace.engine.plugin import Config, Example, Out, Plugin, Secret, Step, Text, UrlOrSecret

MOST_CHARS = {"slack": 40_000, "teams": 20_000, "discord": 2_000}
CARD = "application/vnd.microsoft.card.adaptive"


class NotifyChatConfig(Config):
    chat: Literal["slack", "teams", "discord"] = Field(
        description="What the message looks like: Slack (also Mattermost, Rocket.Chat), Teams, or Discord.",
        examples=["slack"],
    )
    url: UrlOrSecret = Field(
        description="The address of the incoming webhook.", examples=[{"secret": "SALES_CHAT"}]
    )
    text: Text = Field(
        description="The message. What is too long for the chat is cut.",
        examples=["{{ profile.traits.name }} ordered for {{ event.properties.total }}"],
    )
    markup: bool = Field(
        default=False,
        description="Let the text format, link and mention. Only for texts in which nothing is what a visitor wrote.",
    )
    ordered: bool = Field(
        default=False, description="Messages of this node for one profile keep their order."
    )


class NotifyChat(Plugin[NotifyChatConfig]):
    ports = {"queued": "The message is kept, and sent when the event is."}
    examples = (
        Example(
            {
                "chat": "slack",
                "url": {"secret": "SALES_CHAT"},
                "text": "{{ profile.traits.name }} ordered for {{ event.properties.total }}",
            },
            port="queued",
            profile={"traits": {"name": "Kim"}},
            event={"properties": {"total": 120}},
        ),
        Example(
            {"chat": "teams", "url": "https://chat.example/hooks/1", "text": "A new order"}, port="queued"
        ),
        Example(
            {"chat": "discord", "url": {"secret": "OPS_CHAT"}, "text": "**Down**", "markup": True},
            port="queued",
        ),
    )

    def run(self, step: Step) -> Out:
        config = self.config
        text = step.value(config.text)
        most = MOST_CHARS[config.chat]
        text = text if len(text) <= most else f"{text[: most - 1]}…"
        body = MESSAGES[config.chat](text, markup=config.markup)
        url = dict(config.url.source) if isinstance(config.url, Secret) else step.value(config.url)
        step.effect({"method": "POST", "url": url, "body": body}, ordered=config.ordered)
        return Out("queued")


def slack(text: str, *, markup: bool) -> dict[str, Any]:
    """Return a message for Slack."""
    if not markup:
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {"text": text, "mrkdwn": markup}


def teams(text: str, *, markup: bool) -> dict[str, Any]:
    """Return a message for Teams: a card."""
    block: dict[str, Any] = {"type": "TextBlock", "text": text, "wrap": True}
    if not markup:
        # A text of runs knows no Markdown.
        block = {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text}]}
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [block],
    }
    return {"type": "message", "attachments": [{"contentType": CARD, "content": card}]}


def discord(text: str, *, markup: bool) -> dict[str, Any]:
    """Return a message for Discord."""
    if markup:
        return {"content": text}
    for sign in "\\*_~`|>#[]()-":
        text = text.replace(sign, f"\\{sign}")
    return {"content": text[: MOST_CHARS["discord"]], "allowed_mentions": {"parse": []}}


MESSAGES = {"slack": slack, "teams": teams, "discord": discord}
