"""Give the event a new, empty profile.

Only for an event that has no profile. Nodes of the same wave do not see the profile yet; those that follow
do.
"""

from headrace.engine.plugin import Config, Example, Out, Plugin, Step

_DONE = Out("done")


class CreateProfile(Plugin[Config]):
    ports = {"done": "The event has a new profile."}
    examples = (
        Example(
            {}, "done", profile=None, session=None, changes={"profile.traits": {}, "profile.segments": []}
        ),
        Example(
            {}, "error", "The event has a profile.", profile={"id": "p-1"}, changes={"profile.id": "p-1"}
        ),
    )

    def run(self, step: Step) -> Out:
        step.attach(create=True)
        return _DONE
