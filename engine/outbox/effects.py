"""What people do with effects: find them, send one again, drop one."""

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, get_args

from headrace.engine.model import Doc, iso, utc_now
from headrace.engine.outbox.sending import host_of
from headrace.engine.store.protocol import AmendKind

EffectStatus = Literal["pending", "sent", "dead", "dropped"]
STATUSES = get_args(EffectStatus)
"""What an effect may be: it waits or is tried again, it arrived, it was given up, somebody dropped it."""

Deed = Literal["resend", "drop"]


class Amends(Protocol):
    """The part of a store that this needs."""

    async def amend(self, kind: AmendKind, key: str, change: Callable[[Doc], Doc | None]) -> Doc | None:
        """Change one effect as it is now and return it."""
        ...


class Refused(NamedTuple):
    """Why nothing was done with an effect: a code word and a sentence."""

    code: str
    reason: str


def shown(doc: Doc) -> Doc:
    """Return an effect as it is shown: with its host."""
    return doc | {"host": host_of(doc["request"])}


async def do(store: Amends, deed: Deed, tenant: str, key: str) -> Doc | Refused:
    """Send an effect again, or drop it, and return it as it is then. Raises StoreError.

    One that is sent again is due now and has all its attempts and all its time before it; its key stays, so that a
    receiver that had it already knows it again. Who sends it at this moment is not stopped.
    """
    why = [Refused("no_effect", "There is no such effect.")]

    def change(doc: Doc) -> Doc | None:
        if doc.get("tenant") != tenant:
            return None
        changed = DEEDS[deed](doc)
        if isinstance(changed, Refused):
            why[:] = [changed]
            return None
        return changed

    return await store.amend("effect", key, change) or why[0]


def again(doc: Doc) -> Doc:
    """Return an effect that is due now, as if it was new."""
    now = iso(utc_now())
    left = {name: value for name, value in doc.items() if name not in ("ending", "reason", "sent")}
    fresh = {
        "status": "pending",
        "due": now,
        "tries": 0,
        "again_from": now,
        "resent": doc.get("resent", 0) + 1,
    }
    return left | fresh


def dropped(doc: Doc) -> Doc | Refused:
    """Return an effect that nobody will send; one that was sent cannot be dropped."""
    if doc["status"] == "sent":
        return Refused("was_sent", "The effect was sent; it cannot be dropped.")
    left = {name: value for name, value in doc.items() if name != "ending"}
    return left | {"status": "dropped", "reason": "dropped by an operator"}


DEEDS: dict[Deed, Callable[[Doc], Doc | Refused]] = {"resend": again, "drop": dropped}
