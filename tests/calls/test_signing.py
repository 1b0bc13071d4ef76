"""Signatures of Standard Webhooks, checked by the library of the standard."""

import base64
import json
from time import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from headrace.engine.calls.call import outgoing
from headrace.engine.errors import CallError

OLD = "whsec_" + base64.b64encode(b"old-" * 8).decode()
NEW = base64.b64encode(b"new-" * 8).decode().rstrip("=")
OTHER = "whsec_" + base64.b64encode(b"not-" * 8).decode()
BODY = {"mail": "a@b.c", "name": "Åse"}


def signed(*names: str) -> tuple[dict[str, str], bytes]:
    call = {"url": "https://crm.example/", "body": BODY, "sign": [{"secret": name} for name in names]}
    sent = outgoing(call, {"OLD": OLD, "NEW": NEW}.get, key="key-1", now=int(time()))
    return sent.headers, sent.body


def test_a_receiver_with_any_of_the_secrets_takes_it() -> None:
    headers, body = signed("NEW", "OLD")
    assert headers["webhook-id"] == headers["idempotency-key"] == "key-1"
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (OLD, NEW):
        assert Webhook(secret).verify(body, headers) == BODY


def test_one_with_another_secret_another_body_or_another_id_does_not() -> None:
    headers, body = signed("OLD")
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(json.dumps({}), headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(body, headers | {"webhook-id": "key-2"})


@pytest.mark.parametrize("secret", ["", "whsec_", "not base64!", "ö"])
def test_what_is_no_secret_of_the_standard(secret: str) -> None:
    call = {"url": "https://crm.example/", "sign": [{"secret": "S"}]}
    with pytest.raises(CallError, match="base64"):
        outgoing(call, {"S": secret}.get, key="k", now=0)
