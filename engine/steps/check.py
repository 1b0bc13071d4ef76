"""Step 4: does the event fit its version, JSON Schema and condition?"""

from headrace.engine.errors import NodeError
from headrace.engine.files.event_type import EventType
from headrace.engine.model import Doc, EventError
from headrace.engine.passage import Passage
from headrace.engine.request import Attempt, Incoming, Job
from headrace.engine.steps import failed


def check(job: Job, attempt: Attempt, event: Incoming, kind: EventType) -> bool:
    """Say whether the event fits its version's schema; one that does not is kept among the failed events."""
    given = event.input
    version = given.version
    if version is not None and not kind.has_version(version):
        known = ", ".join(f"'{name}'" for name in kind.versions)
        text = f"the event type '{kind.name}' has no version '{version}'; it has: {known}"
        return _refuse(job, attempt, event, "version", [{"pointer": "/version", "message": text}])
    errors = kind.check(given.properties, version)
    if not errors:
        return True
    reasons = [{"pointer": "/properties" + error.pointer, "message": error.message} for error in errors]
    return _refuse(job, attempt, event, "schema", reasons)


def holds(job: Job, attempt: Attempt, event: Incoming, kind: EventType, passage: Passage) -> bool:
    """Say whether the condition of the event's type holds; where it does not, or fails, the event is refused."""
    condition = kind.condition
    # What was processed once has passed it, and a replay that is applied runs one workflow for it.
    if condition is None or "replay_of" in passage.event:
        return True
    try:
        if condition.test(passage.scope):
            return True
        text = f"the condition of '{kind.name}' does not hold: {condition.source}"
    except NodeError as error:
        text = f"the condition of '{kind.name}' failed: {error}"
    return _refuse(job, attempt, event, "condition", [{"pointer": "", "message": text}])


def _refuse(job: Job, attempt: Attempt, event: Incoming, code: str, reasons: list[Doc]) -> bool:
    """Keep the event among the failed ones, and tell the client why; returns False."""
    message = "; ".join(f"{one['pointer']}: {one['message']}".removeprefix(": ") for one in reasons)
    attempt.errors.append(EventError(event.id, code, message))
    failed.keep_failed(job, attempt, event, code, reasons)
    return False
