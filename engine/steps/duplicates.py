"""Step 3: which events were sent before?"""

from headrace.engine.model import EventError
from headrace.engine.request import Attempt, Incoming, Job
from headrace.engine.steps import failed
from headrace.engine.store.protocol import Stored


def is_new(job: Job, attempt: Attempt, event: Incoming, stored: Stored | None) -> bool:
    """Say whether an event is new; one that is not is noted, and kept as failed when its content differs.

    `stored` is what the store knows of its key. An id may also come twice within the request.
    """
    if stored is None and event.key not in attempt.contents:
        attempt.contents[event.key] = event.content
        return True
    content = attempt.contents[event.key] if stored is None else stored.doc["content"] or ""
    if content != event.content:
        message = "the id was used before, for an event of other content"
        attempt.errors.append(EventError(event.id, "id_reused", message))
        failed.keep_failed(job, attempt, event, "id_reused", [{"pointer": "/id", "message": message}])
        return False
    attempt.duplicates.append(event.id)
    if stored is not None and attempt.duplicate_of is None:
        attempt.duplicate_of = stored.doc["profile"]
    return False
