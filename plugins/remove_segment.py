"""Take the profile out of a segment."""

from pydantic import Field

from headrace.engine.plugin import Config, Example, Out, Plugin, Step, WritePath, WrittenSegment

_DONE = Out("done")


class RemoveSegmentConfig(Config):
    segment: WrittenSegment = Field(description="The segment.", examples=["new"])


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

    def prepare(self) -> None:
        self._segments = WritePath("profile.segments")
        self._segment = self.config.segment

    def run(self, step: Step) -> Out:
        step.remove(self._segments, self._segment)
        return _DONE
