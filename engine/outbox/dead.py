"""Makes the event `webhook-dead` of an effect that is given up."""

from headrace.engine.errors import InputError
from headrace.engine.logs import logger
from headrace.engine.model import WEBHOOK_DEAD, Caller, Doc, EventInput, TrackRequest, doc_key, utc_now
from headrace.engine.outbox.sending import MAIL, host_of
from headrace.engine.parts import Parts
from headrace.engine.steps.admit import INTERNAL
from headrace.engine.store.protocol import Ref
from headrace.engine.track import track

DEEPEST = 3
"""How often what such an event causes may die and cause another one."""


async def tell(parts: Parts, doc: Doc) -> None:
    """Process the event, in the name of the effect's source and profile; a second time changes nothing.

    Raises StoreError, BusyError: then it was not made.
    """
    depth = await _depth(parts, doc)
    about = {"effect": doc["id"], "workflow": doc["workflow"], "node": doc["node"]}
    if depth > DEEPEST:
        logger().warning("an effect of webhook-dead events is dead", **about, depth=depth)
        return
    profile = await _profile(parts, doc)
    # One that was sent again, and died again, is told again.
    again = f"/{doc['resent']}" if "resent" in doc else ""
    event = EventInput(WEBHOOK_DEAD, _properties(doc), id=f"{WEBHOOK_DEAD}/{doc['id']}{again}")
    request = TrackRequest(
        source_id=doc.get("source") or "",
        events=[event],
        door=INTERNAL,
        received=utc_now(),
        profile_id=profile,
        profile_less=profile is None,
        context={"webhook_dead": {"effect": doc["id"], "depth": depth}},
        caller=Caller(admin=True),
    )
    try:
        await track(parts, request)
    except InputError as error:
        # Its source is gone, or disabled: there is nobody to tell.
        logger().warning("no webhook-dead event", **about, error=str(error))


def _properties(doc: Doc) -> Doc:
    """Return what the event says. The address is left out, since it may be a secret."""
    response = doc.get("response") or {}
    return {
        "effect": doc["id"],
        "event": doc["event"],
        "workflow": doc["workflow"],
        "node": doc["node"],
        "kind": "mail" if MAIL in doc["request"] else "webhook",
        "host": host_of(doc["request"]),
        "reason": doc["ending"],
        "status": response.get("status"),
        "attempts": doc.get("tries", 0),
    }


async def _depth(parts: Parts, doc: Doc) -> int:
    """Return how many dead effects, each caused by the one before, led to this one, itself included."""
    event = await parts.store.get("event", doc["event"])
    before = ((event or {}).get("context") or {}).get("webhook_dead")
    depth = before.get("depth") if isinstance(before, dict) else None
    return depth + 1 if isinstance(depth, int) else 1


async def _profile(parts: Parts, doc: Doc) -> str | None:
    """Return the id of the effect's profile if it is still there."""
    if doc["profile"] is None:
        return None
    (found,) = await parts.store.read([Ref("profile", doc_key("profile", doc["tenant"], doc["profile"]))])
    return None if found is None else str(doc["profile"])
