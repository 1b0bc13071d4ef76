"""Put the profile into a segment."""

from pydantic import Field

from headrace.engine.plugin import Config, Example, Out, Plugin, SegmentName, Step

_DONE = Out("done")


class AddSegmentConfig(Config):
    segment: SegmentName = Field(description="The segment.", examples=["vip"])


class AddSegment(Plugin[AddSegmentConfig]):
    ports = {"done": "The profile is in the segment, now or already before."}
    examples = (
        Example(
            {"segment": "vip"},
            "done",
            profile={"segments": ["new"]},
            changes={"profile.segments": ["new", "vip"]},
        ),
        Example({"segment": "vip"}, "error", "The event has no profile.", profile=None),
    )

    def run(self, step: Step) -> Out:
        step.add("profile.segments", self.config.segment)
        return _DONE
