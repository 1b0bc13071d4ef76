"""Tell whether the profile was made by this request."""

from headrace.engine.model import iso
from headrace.engine.plugin import Config, Example, Out, Plugin, Step

_TRUE = Out("true")
_FALSE = Out("false")


class IsNewProfile(Plugin[Config]):
    ports = {"true": "The profile is new.", "false": "It was known before, or there is no profile."}
    examples = (
        Example({}, "true", profile={"time": {"created": "2026-01-15T12:00:00.000Z"}}),
        Example({}, "false", profile={"time": {"created": "2026-01-14T12:00:00.000Z"}}),
    )

    def run(self, step: Step) -> Out:
        return _TRUE if step.profile.time.get("created") == iso(step.now) else _FALSE
