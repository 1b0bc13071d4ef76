"""Tell whether the session began with this request."""

from headrace.engine.model import iso
from headrace.engine.plugin import Config, Example, Out, Plugin, Step

_TRUE = Out("true")
_FALSE = Out("false")


class IsNewSession(Plugin[Config]):
    ports = {"true": "The session is new.", "false": "It was known before, or there is no session."}
    examples = (
        Example({}, "true", session={"time": {"created": "2026-01-15T12:00:00.000Z"}}),
        Example({}, "false", session={"time": {"created": "2026-01-15T11:59:00.000Z"}}),
    )

    def run(self, step: Step) -> Out:
        return _TRUE if step.session.time.get("created") == iso(step.now) else _FALSE
