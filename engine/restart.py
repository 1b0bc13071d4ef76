"""Why an attempt ends, so that the next one is made."""

from headrace.engine.identity.values.decide import Decision, Said
from headrace.engine.identity.values.weigh import Owner
from headrace.engine.model import Doc


class StartAgain(Exception):  # noqa: N818 - not an error: it ends an attempt, and `track` makes the next one
    """The attempt cannot go on; `end` asks for a commit of the events before that number first."""

    end: int | None = None


class Needs(StartAgain):
    """The run wants a profile or session that this request has not locked."""

    def __init__(self, *, profile: str | None = None, session: str | None = None) -> None:
        super().__init__(profile or session)
        self.profile = profile
        self.session = session


class HalfMerged(StartAgain):
    """A profile is half merged into another one, which is finished before the next attempt."""

    def __init__(self, profile: str) -> None:
        super().__init__(profile)
        self.profile = profile


class Detour(StartAgain):
    """Profiles are to be merged, or the session goes to another one, before the event of a key starts again.

    `decision` None waits for the profile that a claim names, its `owner`. `name` is of the kind of the value, or of the
    node that asked. `other` None is a profile that is still to be made; with `is_new` the event's is not stored yet.
    `terms` are looked at again when it comes to a merge.
    """

    def __init__(self, key: str, name: str, decision: Decision | None, profile: Doc | None) -> None:
        super().__init__(name)
        self.key = key
        self.name = name
        self.decision = decision
        self.profile = "" if profile is None else str(profile["id"])
        self.other: str | None = None
        self.by = name
        self.is_new = False
        self.terms: Doc | None = None
        self.asked: Said | None = None
        self.owner: Owner | None = None


class Fault(StartAgain):
    """The engine failed on an event: the next attempt puts it among the failed ones."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(reason)
        self.key = key
        self.reason = reason
