"""The values that expressions of one event can name."""

from datetime import datetime
from typing import Any, Final

from headrace.engine.language.limits import Work
from headrace.engine.model import Doc

NAMES: Final = ("event", "profile", "session", "source", "nodes", "vars", "now")
"""The names in scope."""


class Scope(Work):
    """What the expressions of one event see. Made once for an event and used for all its expressions.

    `profile` and `session` may be None: all that is looked up in them is then missing. `nodes` holds the results of
    the nodes of the running workflow by name, `vars` what that workflow keeps for itself; both start empty for each
    run. `now` is a UTC time. `extra` holds values for names beyond
    these, where the place of an expression has some.
    """

    __slots__ = (
        "event",
        "extra",
        "nodes",
        "now",
        "profile",
        "rounds",
        "session",
        "source",
        "vars",
    )

    def __init__(
        self, event: Doc, profile: Doc | None, session: Doc | None, source: Doc, now: datetime
    ) -> None:
        self.event = event
        self.profile = profile
        self.session = session
        self.source = source
        self.now = now
        self.nodes: Doc = {}
        self.vars: Doc = {}
        self.extra: Doc = {}
        self.spent = 0
        self.rounds = 0

    @property
    def docs(self) -> dict[str, Any]:
        """The documents by name, for paths."""
        return {name: getattr(self, name) for name in NAMES if name != "now"}

    def set(self, name: str, value: Any) -> None:
        """Give a name a new value, from the next evaluation on."""
        if name in NAMES:
            setattr(self, name, value)
        else:
            self.extra[name] = value
