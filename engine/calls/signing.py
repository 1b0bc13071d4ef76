"""Standard Webhooks: headers that prove who sent a call."""

import base64
import binascii
import hmac
from collections.abc import Iterable

from headrace.engine.errors import CallError

PREFIX = "whsec_"


def key_of(secret: str) -> bytes:
    """Return the key in a secret as the standard writes it: base64, with or without `whsec_` before it.

    Raises CallError for another text; it is not shown.
    """
    text = secret.removeprefix(PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise CallError("a secret for `sign` must be base64, such as whsec_… of Standard Webhooks")
    return key


def signed_headers(secrets: Iterable[str], key: str, seconds: int, body: bytes) -> dict[str, str]:
    """Return the three headers: the id, the time, and one signature for each secret, newest first."""
    signed = f"{key}.{seconds}.".encode() + body
    signatures = [
        "v1," + base64.b64encode(hmac.digest(key_of(secret), signed, "sha256")).decode() for secret in secrets
    ]
    return {
        "webhook-id": key,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(signatures),
    }
