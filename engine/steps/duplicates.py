"""Step 3: which events were sent before?"""

from headrace.engine.model import EventError
from headrace.engine.request import Attempt, Incoming, Job
from headrace.engine.steps import failed
from headrace.engine.store.protocol import Stored


def drop_duplicates(
    job: Job, attempt: Attempt, events: list[Incoming], seen: list[Stored | None]
) -> list[Incoming]:
    """Return the events that are new; the others are noted, and kept as failed when their content differs."""
    new: list[Incoming] = []
    first: dict[str, str] = {}
    for event, stored in zip(events, seen, strict=True):
        content = first.get(event.key) if stored is None else stored.doc["content"]
        if content is None:
            first[event.key] = event.content
            new.append(event)
        elif content == event.content:
            attempt.duplicates.append(event.id)
            if stored is not None and attempt.duplicate_of is None:
                attempt.duplicate_of = stored.doc["profile"]
        else:
            _reused(job, attempt, event)
    return new


def _reused(job: Job, attempt: Attempt, event: Incoming) -> None:
    message = "the id was used before, for an event of other content"
    attempt.errors.append(EventError(event.id, "id_reused", message))
    failed.keep_failed(job, attempt, event, "id_reused", [{"pointer": "/id", "message": message}])
