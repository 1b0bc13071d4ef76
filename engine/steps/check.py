"""Step 4: does the event keep to its type's JSON Schema?"""

from headrace.engine.model import EventError
from headrace.engine.request import Attempt, Incoming, Job
from headrace.engine.steps import failed


def check(job: Job, attempt: Attempt, event: Incoming) -> bool:
    """Say whether the event may go on; one that may not is kept among the failed events."""
    event_type = job.workspace.event_types.get(event.input.type)
    errors = event_type.check(event.input.properties) if event_type is not None else []
    if not errors:
        return True
    reasons = [{"pointer": "/properties" + error.pointer, "message": error.message} for error in errors]
    message = "; ".join(f"{reason['pointer']}: {reason['message']}" for reason in reasons)
    attempt.errors.append(EventError(event.id, "schema", message))
    failed.keep_failed(job, attempt, event, "schema", reasons)
    return False
