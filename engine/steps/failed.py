"""Keeps events that cannot be processed, with the reasons."""

from headrace.engine.model import Doc, content_hash, make_key
from headrace.engine.request import Attempt, Incoming, Job
from headrace.engine.store.protocol import Row

FAILED, RESENT = "failed", "resent"
"""What a failed event is: kept, or sent again since."""


def keep_failed(job: Job, attempt: Attempt, event: Incoming, code: str, reasons: list[Doc]) -> None:
    """Put an event among the failed ones; the same event sent again is kept once."""
    given = event.input
    content = event.content or content_hash((given.type, given.properties, given.time))
    version = () if given.version is None else (given.version,)
    key = make_key("failed", event.key, content, code, *version)
    draft = attempt.draft
    raw: Doc = {
        "type": given.type,
        "properties": given.properties,
        # That of its request stands in each event.
        "context": {**job.request.context, **given.context},
        "id": given.id,
        "time": given.time,
    }
    if version:
        raw["version"] = given.version
    doc = {
        "id": key,
        "event": event.id,
        "tenant": job.tenant,
        "source": job.source.id,
        "session": job.request.session_id,
        "profile": draft.profile["id"] if draft.profile else None,
        "type": given.type,
        "code": code,
        "reasons": reasons,
        "status": FAILED,
        "raw": raw,
        "received": job.received,
        "door": job.request.door,
    }
    draft.failed.append(Row(key, doc))
