"""Makes one attempt to send an effect, and says what came."""

import random
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from time import perf_counter
from typing import Any, Protocol

import msgspec

from headrace.engine.calls.client import Reply
from headrace.engine.errors import CallError, UnsetSecretError
from headrace.engine.model import Doc, from_iso, iso, utc_now
from headrace.engine.outbox.retry import Outcome, asked_wait, backoff, judge

ATTEMPTS_KEPT = 20
RESPONSE_CHARS = 1_024
USUAL_SECONDS = 10.0
MAIL = "mail"
"""The lane of mails: all go to one server."""

_AUTHORITY = re.compile(r"https?://([^/?#\\]*)", re.IGNORECASE)


class Calls(Protocol):
    """What sends HTTP calls: `headrace.engine.calls.client.Client`."""

    async def send(self, call: Mapping[str, Any], *, key: str, traceparent: str | None = None) -> Reply:
        """Send a call and return what came back. Raises CallError when nothing did."""
        ...


class Mails(Protocol):
    """What sends mails: `headrace.engine.calls.mail.Mailer`."""

    async def send(self, mail: Mapping[str, Any], *, key: str, seconds: float) -> None:
        """Hand a mail to the server. Raises CallError when it was not taken."""
        ...


class Sender(Protocol):
    """Makes one attempt; never raises on purpose."""

    async def __call__(self, doc: Doc) -> Outcome:
        """Send an effect and say what came of it."""
        ...


class Limits(msgspec.Struct, frozen=True):
    """How often an effect is tried, and for how many seconds after it was made."""

    attempts: int
    age_seconds: float


class Sending:
    """Sends calls and mails; nothing takes longer than `most_seconds`."""

    def __init__(self, calls: Calls, mails: Mails, most_seconds: float) -> None:
        self._calls = calls
        self._mails = mails
        self._most = most_seconds

    async def __call__(self, doc: Doc) -> Outcome:
        """Send an effect and say what came of it."""
        began = perf_counter()
        request = doc["request"]
        seconds = min(float(request.get("timeout_seconds") or USUAL_SECONDS), self._most)
        try:
            if MAIL in request:
                await self._mails.send(request[MAIL], key=doc["id"], seconds=seconds)
                return Outcome("sent", _since(began))
            call = {**request, "timeout_seconds": seconds}
            return said(await self._calls.send(call, key=doc["id"], traceparent=doc.get("traceparent")))
        except CallError as error:
            again = error.retryable
            # A secret that is not set says nothing of the host.
            down = again and not isinstance(error, UnsetSecretError)
            return Outcome("again" if again else "dead", _since(began), error=error.reason, down=down)


def said(reply: Reply) -> Outcome:
    """Return what an answer means."""
    verdict = judge(reply.status)
    return Outcome(
        verdict,
        reply.ms,
        status=reply.status,
        error=reply.problem,
        body=reply.body[: 4 * RESPONSE_CHARS].decode(errors="replace")[:RESPONSE_CHARS],
        wait=asked_wait(reply.headers, utc_now()) if verdict == "again" else None,
        down=verdict == "again" and reply.status not in (409, 425),
    )


@lru_cache(maxsize=4096)
def _host(url: str) -> str:
    found = _AUTHORITY.match(url)
    return found[1].rpartition("@")[2].lower()[:255] if found else "?"


def host_of(request: Mapping[str, Any]) -> str:
    """Return the host (and port) that a request goes to; for a URL that is a secret, that secret's name."""
    if MAIL in request:
        return MAIL
    url = request.get("url")
    if isinstance(url, str):
        return _host(url)
    return f"secret {url.get('secret')}" if isinstance(url, dict) else "?"


def told(doc: Doc, outcome: Outcome, limits: Limits, now: datetime, dice: random.Random) -> Doc:
    """Return an effect after an attempt: sent; due again later; or `ending`, with the reason, when it is given up."""
    attempt: Doc = {"at": iso(now - timedelta(milliseconds=outcome.ms)), "ms": outcome.ms}
    if outcome.status is not None:
        attempt["status"] = outcome.status
    if outcome.error:
        attempt["error"] = outcome.error
    tries = doc.get("tries", 0) + 1
    left = {name: value for name, value in doc.items() if name != "put_off"}
    new = left | {"attempts": [*(doc.get("attempts") or ()), attempt][-ATTEMPTS_KEPT:], "tries": tries}
    if outcome.status is not None:
        new["response"] = {"status": outcome.status, "text": outcome.body}
    if outcome.verdict == "sent":
        return new | {"status": "sent", "sent": iso(now)}
    last = outcome.error if outcome.status is None else f"status {outcome.status}"
    if outcome.verdict == "dead":
        return end(new, last, now)
    wait = max(backoff(tries, dice), outcome.wait or 0.0)
    if tries >= limits.attempts:
        return end(new, f"{last}, after {tries} attempts", now)
    if is_old(new, limits, now + timedelta(seconds=wait)):
        return end(new, f"{last}, and no more time is left", now)
    return new | {"due": iso(now + timedelta(seconds=wait))}


def is_old(doc: Doc, limits: Limits, at: datetime) -> bool:
    """Say whether an effect is too old to be sent at a time."""
    since = doc.get("again_from") or doc.get("created")
    return since is not None and (at - from_iso(since)).total_seconds() > limits.age_seconds


def end(doc: Doc, reason: str, now: datetime) -> Doc:
    """Return an effect that is not sent any more. It is pending until the event `webhook-dead` is made."""
    return doc | {"ending": reason, "due": iso(now)}


def _since(began: float) -> float:
    return round((perf_counter() - began) * 1000, 3)
