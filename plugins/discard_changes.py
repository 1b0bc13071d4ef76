"""Drop what earlier nodes changed in the profile or the session.

Earlier are the nodes of the waves before, in this workflow and in those that took the event before it; of a run that
waited only those since it went on. What they wrote into traits, counters, interests and segments, and into the
properties and the context of the session, is as it was before the event; what later nodes write stays.

Not dropped is what an event type's mapping wrote, consents, marks of `once`, what a throttle counted, and whatever is
not a field: calls, internal events, the answer, waits.
"""

from typing import Literal

from pydantic import Field

from headrace.engine.plugin import Config, Example, Out, Plugin, Step

_DONE = Out("done")


class DiscardChangesConfig(Config):
    of: list[Literal["profile", "session"]] = Field(
        ["profile", "session"], min_length=1, max_length=2, description="What is as it was before."
    )


class DiscardChanges(Plugin[DiscardChangesConfig]):
    ports = {"done": "The changes are dropped, if there were any."}
    examples = (
        Example({}, "done"),
        Example(
            {"of": ["session"]}, "done", "What the profile got stays.", profile={"traits": {"name": "Ann"}}
        ),
    )

    def run(self, step: Step) -> Out:
        of = self.config.of
        step.discard(profile="profile" in of, session="session" in of)
        return _DONE
