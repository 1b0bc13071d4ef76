"""Give the event a session by its id, stored or new.

Only for an event that has neither session nor profile. A stored session brings its profile along. Whoever can
send such an event can name any id: use it for sources with a secret key, or answer nothing about the profile.
"""

from pydantic import Field

from headrace.engine.plugin import Config, Example, Out, Plugin, Step, Value

_DONE = Out("done")
_MISSING = Out("missing")
_SESSION = {"id": "{{ event.properties.session_id }}"}


class AttachSessionConfig(Config):
    id: Value[str | None] = Field(
        description="The session's id.", examples=["{{ event.properties.session_id }}"]
    )


class AttachSession(Plugin[AttachSessionConfig]):
    ports = {"done": "The event has the session.", "missing": "There is no id; nothing was changed."}
    examples = (
        Example(
            _SESSION,
            "done",
            profile=None,
            session=None,
            event={"properties": {"session_id": "s-7"}},
            profiles=[{"id": "p-7"}],
            sessions=[{"id": "s-7", "profile": "p-7"}],
            changes={"session.id": "s-7", "event.session": "s-7", "profile.id": "p-7"},
        ),
        Example(_SESSION, "missing", profile=None, session=None),
        Example({"id": "s-7"}, "error", "The event has them already.", profile={"id": "p-1"}),
        Example(
            {"id": "s\n7"},
            "error",
            "It is no id: one has 1 to 256 characters, no control character.",
            profile=None,
        ),
    )

    def run(self, step: Step) -> Out:
        session = step.value(self.config.id)
        if not session or session.isspace():
            return _MISSING
        step.attach(session=session)
        return _DONE
