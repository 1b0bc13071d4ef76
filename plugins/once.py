"""Go on only once for each profile, or once in a period.

The time of the last pass is kept in the profile as `profile.marks.<name>`. The profile is marked when the
node has run, not when what follows it is done.
"""

from pydantic import Field

from headrace.engine.model import from_iso
from headrace.engine.plugin import Config, Duration, Example, MarkName, NodeError, Out, Plugin, Step

_FIRST = Out("first")
_AGAIN = Out("again")


class OnceConfig(Config):
    name: MarkName = Field(
        description="The mark's name; nodes with one name, in any workflow, share it.",
        examples=["welcomed"],
    )
    period: Duration | None = Field(
        None, description="How long it holds; without it, for ever.", examples=["30d", "12h"]
    )


class Once(Plugin[OnceConfig]):
    ports = {"first": "The profile did not pass here before, or not within the period.", "again": "It did."}
    examples = (
        Example(
            {"name": "welcomed"}, "first", changes={"profile.marks.welcomed": "2026-01-15T12:00:00.000Z"}
        ),
        Example(
            {"name": "welcomed", "period": "30d"},
            "again",
            profile={"marks": {"welcomed": "2026-01-01T00:00:00.000Z"}},
            changes={"profile.marks.welcomed": "2026-01-01T00:00:00.000Z"},
        ),
        Example({"name": "welcomed"}, "error", "Without a profile nothing can be remembered.", profile=None),
    )

    def run(self, step: Step) -> Out:
        profile = step.profile
        if not profile:
            raise NodeError("the event has no profile to remember it in")
        last = profile["marks"].get(self.config.name)
        period = self.config.period
        if last is not None and (period is None or step.now - from_iso(last) < period):
            return _AGAIN
        step.mark(self.config.name)
        return _FIRST
