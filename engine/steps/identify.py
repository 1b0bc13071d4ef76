"""Step 6: join, merge or move by identifying values."""

from headrace.engine.errors import NodeError
from headrace.engine.identity.subject import Subject
from headrace.engine.identity.values.decide import Decision, Said
from headrace.engine.identity.values.weigh import Owner, find_owners
from headrace.engine.model import Doc
from headrace.engine.passage import Passage
from headrace.engine.request import Job


async def identify(job: Job, passage: Passage) -> None:
    """Let the profile have the identifying values of the event, the most important first.

    The event tells what each meant, never the value. Raises Detour when profiles are to be merged or the session moves;
    the event starts again then. Raises Needs.
    """
    event = passage.event
    if "replay_of" in event or not job.may_detour:
        # Whose it is was found out when it came.
        return
    values = job.workspace.identifiers.values(event)
    if not values:
        return
    trusted = passage.ground.is_trusted
    asked = [Said(kind, value, trusted or kind.takes_any) for kind, value in values]
    owners = await find_owners(passage.reads, passage.draft, asked)
    subject = passage.subject
    told = [
        {"kind": one.kind.name, "decision": _identify(subject, one, owner).value}
        for one, owner in zip(asked, owners, strict=True)
    ]
    event["identified"] = _with_detours(job, passage.key, told)


def _identify(subject: Subject, asked: Said, owner: Owner | None) -> Decision:
    try:
        return subject.identify(asked, owner)
    except NodeError:
        # The profile that has the value was erased meanwhile.
        return Decision.NOBODY


def _with_detours(job: Job, key: str, told: list[Doc]) -> list[Doc]:
    """Return what is told, with what was done before the event started again."""
    done = dict(job.detours.get(key, ()))
    return [one | {"decision": done[one["kind"]].value} if one["kind"] in done else one for one in told]
