"""Take the profile out of a segment."""

from pydantic import Field

from headrace.engine.plugin import Config, Example, Out, Plugin, SegmentName, Step

_DONE = Out("done")


class RemoveSegmentConfig(Config):
    segment: SegmentName = Field(description="The segment.", examples=["new"])


class RemoveSegment(Plugin[RemoveSegmentConfig]):
    ports = {"done": "The profile is not in the segment."}
    examples = (
        Example(
            {"segment": "new"},
            "done",
            profile={"segments": ["new", "vip"]},
            changes={"profile.segments": ["vip"]},
        ),
    )

    def run(self, step: Step) -> Out:
        step.remove("profile.segments", self.config.segment)
        return _DONE
