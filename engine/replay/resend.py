"""Sends one failed event again, as it was or mended."""

from typing import NamedTuple

from headrace.engine.model import Doc
from headrace.engine.parts import Parts
from headrace.engine.replay.apply import apply_failed
from headrace.engine.replay.past import event_of


class Refused(NamedTuple):
    """Why a failed event was not taken this time either: a code word and a sentence."""

    code: str
    reason: str


NONE = Refused("no_failed", "There is no such failed event.")


async def resend(parts: Parts, tenant: str, key: str, raw: Doc | None = None) -> Doc | Refused:
    """Send a failed event again, under its id and in the name of its source; returns it as it is kept then.

    `raw` stands in place of what was sent. One that its client sent in the meantime is known, and not taken twice.
    Raises InputError when its time cannot be read, StoreError, BusyError.
    """
    failed = await parts.store.get("failed", key)
    if failed is None or failed["tenant"] != tenant:
        return NONE
    event = event_of(failed if raw is None else failed | {"raw": raw})
    applied = await apply_failed(parts, parts.live.current, event)
    if applied.outcome == "left out":
        return Refused("no_source", f"It cannot be sent again: {applied.why}.")
    if applied.outcome == "refused":
        return Refused("refused_again", f"It was refused again. {applied.why}")
    return await parts.store.get("failed", key) or failed
