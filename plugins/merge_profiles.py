"""Merge the event's profile with another one that is the same person.

What both know becomes one profile, by the strategies of `event_types.json`; ids of both lead to it for ever, and
`headrace profiles unmerge` takes them apart again. The event then starts again, with the profile that is left. Only for
events of a source with a key: who can merge any two profiles can read and change both.
"""

from pydantic import Field

from headrace.engine.plugin import Config, Example, Out, Plugin, Step, Value

_ID = {"profile": "{{ event.properties.profile_id }}"}


class MergeProfilesConfig(Config):
    profile: Value[str | None] = Field(
        description="The id of the other profile.", examples=["{{ event.properties.profile_id }}"]
    )


class MergeProfiles(Plugin[MergeProfilesConfig]):
    uses = {"store"}
    ports = {
        "done": "The two are one.",
        "refused": "They are not merged: the source has no key, or somebody took the two apart.",
        "not_found": "There is no such profile; nothing was changed.",
    }
    examples = (
        Example(
            _ID,
            "done",
            "The source has a key.",
            event={"properties": {"profile_id": "p-7"}},
            profiles=[{"id": "p-7"}],
            trusted=True,
        ),
        Example(
            _ID,
            "refused",
            "The source has no key.",
            event={"properties": {"profile_id": "p-7"}},
            profiles=[{"id": "p-7"}],
        ),
        Example(_ID, "not_found", event={"properties": {}}),
    )

    async def run(self, step: Step) -> Out:
        other = step.value(self.config.profile)
        outcome = await step.merge(other) if other else "not_found"
        if outcome in ("refused", "not_found"):
            return Out(outcome)
        return Out("done")
