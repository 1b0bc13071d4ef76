"""Give the event a stored profile, by its id or a session.

Only for an event that has no profile. Whoever can send such an event can name any id: use it for sources with
a secret key, or answer nothing about the profile. Nodes of the same wave do not see the profile yet; those
that follow do.
"""

from pydantic import Field

from headrace.engine.plugin import Config, Example, NodeError, Out, Plugin, Step, Value

_BY_ID = {"id": "{{ event.properties.profile_id }}"}


class LoadProfileConfig(Config):
    id: Value[str | None] | None = Field(
        None, description="The profile's id.", examples=["{{ event.properties.profile_id }}"]
    )
    session: Value[str | None] | None = Field(
        None, description="The id of a session of the profile, instead of `id`."
    )


class LoadProfile(Plugin[LoadProfileConfig]):
    uses = {"store"}
    ports = {
        "found": "The event has the profile.",
        "not_found": "There is no such profile; nothing was changed.",
    }
    examples = (
        Example(
            _BY_ID,
            "found",
            profile=None,
            session=None,
            event={"properties": {"profile_id": "p-7"}},
            profiles=[{"id": "p-7", "traits": {"name": "Ann"}}],
            changes={"profile.traits.name": "Ann", "event.profile": "p-7"},
        ),
        Example(
            {"session": "s-7"},
            "found",
            profile=None,
            session=None,
            profiles=[{"id": "p-7"}],
            sessions=[{"id": "s-7", "profile": "p-7"}],
            changes={"profile.id": "p-7"},
        ),
        Example(_BY_ID, "not_found", profile=None, session=None, event={"properties": {"profile_id": "p-8"}}),
        Example(
            _BY_ID, "error", "The event has a profile.", profile={"id": "p-1"}, changes={"profile.id": "p-1"}
        ),
    )

    def prepare(self) -> None:
        if (self.config.id is None) == (self.config.session is None):
            raise ValueError("give either id or session")

    async def run(self, step: Step) -> Out:
        if step.profile:
            raise NodeError("the event has a profile already")
        by_id, by_session = self.config.id, self.config.session
        id_ = step.value(by_id) if by_id is not None else None
        session = step.value(by_session) if by_session is not None else None
        profile = await step.find_profile(id=id_, session=session) if id_ or session else None
        if profile is None:
            return Out("not_found")
        step.attach(profile=profile["id"])
        return Out("found", {"id": profile["id"]})
