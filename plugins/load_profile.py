"""Give the event a stored profile, by id, session, or identifying value.

Only for an event that has no profile. Whoever can send such an event can name any id: use it for sources with
a secret key, or answer nothing about the profile. By a value it finds nothing unless the source has a key. Nodes
of the same wave do not see the profile yet; those that follow do.
"""

from typing import Any

from pydantic import Field

from headrace.engine.plugin import Config, Example, KindName, NodeError, Out, Plugin, Step, Value, View

_BY_ID = {"id": "{{ event.properties.profile_id }}"}


class LoadProfileConfig(Config):
    id: Value[str | None] | None = Field(
        None, description="The profile's id.", examples=["{{ event.properties.profile_id }}"]
    )
    session: Value[str | None] | None = Field(
        None, description="The id of a session of the profile, instead of `id`."
    )
    kind: KindName | None = Field(
        None, description="The kind of a value that identifies the person, such as `email`, instead of `id`."
    )
    value: Value[Any] | None = Field(
        None, description="The value of that kind.", examples=["{{ event.properties.email }}"]
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
        Example(
            {"kind": "email", "value": "{{ event.properties.email }}"},
            "found",
            "The source has a key.",
            profile=None,
            session=None,
            event={"properties": {"email": "Ann@example.com"}},
            profiles=[{"id": "p-7", "identities": {"email": ["ann@example.com"]}}],
            changes={"profile.id": "p-7"},
            trusted=True,
        ),
        Example(
            {"kind": "email", "value": "{{ event.properties.email }}"},
            "not_found",
            "The source has no key, so nobody is found by an address.",
            profile=None,
            session=None,
            event={"properties": {"email": "ann@example.com"}},
            profiles=[{"id": "p-7", "identities": {"email": ["ann@example.com"]}}],
        ),
        Example(_BY_ID, "not_found", profile=None, session=None, event={"properties": {"profile_id": "p-8"}}),
        Example(
            _BY_ID, "error", "The event has a profile.", profile={"id": "p-1"}, changes={"profile.id": "p-1"}
        ),
    )

    def prepare(self) -> None:
        config = self.config
        ways = [way for way in (config.id, config.session, config.kind) if way is not None]
        if len(ways) != 1:
            raise ValueError("give either id or session, or kind and value")
        if (config.kind is None) != (config.value is None):
            raise ValueError("kind and value belong together")

    async def run(self, step: Step) -> Out:
        if step.profile:
            raise NodeError("the event has a profile already")
        profile = await self._find(step)
        if profile is None:
            return Out("not_found")
        step.attach(profile=profile["id"])
        return Out("found", {"id": profile["id"]})

    async def _find(self, step: Step) -> View | None:
        by_id, by_session, kind, value = (
            self.config.id,
            self.config.session,
            self.config.kind,
            self.config.value,
        )
        if kind is not None and value is not None:
            return await step.find_identified(kind, step.value(value))
        id_ = step.value(by_id) if by_id is not None else None
        session = step.value(by_session) if by_session is not None else None
        return await step.find_profile(id=id_, session=session) if id_ or session else None
