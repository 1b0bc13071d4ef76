"""Send a webhook when the event is kept, until it arrives.

The call is kept together with what the event changed, and sent after that: nobody waits for it, and it is not lost when
the other side is down or this server ends. It arrives at least once, each time with the same `Idempotency-Key`, by
which the receiver knows it again. Use `http_request` where the workflow needs the answer.

It is tried again after no answer and after the statuses 408, 409, 425, 429 and 500 to 599, each time later. Any other
status but 200 to 299 ends it at once. An effect that is given up is dead: it makes the event `webhook-dead`.
"""

from typing import Literal

from pydantic import Field

from headrace.engine.plugin import CallConfig, Example, Out, Plugin, Step


class WebhookConfig(CallConfig):
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = Field(
        "POST", description="The method."
    )
    ordered: bool = Field(
        default=False,
        description="Webhooks of this node for one profile are sent in the order of its events: the next one goes when "
        "the one before has arrived or is dead.",
    )


class Webhook(Plugin[WebhookConfig]):
    ports = {"queued": "It is kept, and sent when the event is."}
    examples = (
        Example(
            {"url": "https://crm.example/vip", "body": {"mail": "{{ profile.traits.email }}"}},
            port="queued",
            about="A JSON body, built from values",
            profile={"traits": {"email": "a@b.c"}},
        ),
        Example(
            {
                "url": "https://erp.example/orders/{{ event.properties.id }}",
                "method": "PUT",
                "headers": {"x-shop": "{{ source.id }}"},
                "body": {"total": "{{ event.properties.total }}"},
                "auth": {"bearer": {"secret": "ERP_TOKEN"}},
                "sign": [{"secret": "ERP_HOOK"}],
                "timeout_seconds": 5,
                "ordered": True,
            },
            port="queued",
            about="Signed, with a token, one after the other for each profile",
            event={"properties": {"id": "o-1", "total": 120}},
        ),
    )

    def run(self, step: Step) -> Out:
        step.effect(self.config.call(step), ordered=self.config.ordered)
        return Out("queued")
