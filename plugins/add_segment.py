"""Put the profile into a segment."""

from pydantic import Field

from headrace.engine.plugin import Config, Example, Out, Plugin, Step, WritePath, WrittenSegment

_DONE = Out("done")


class AddSegmentConfig(Config):
    segment: WrittenSegment = Field(description="The segment.", examples=["vip"])


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

    def prepare(self) -> None:
        self._segments = WritePath("profile.segments")
        self._segment = self.config.segment

    def run(self, step: Step) -> Out:
        step.add(self._segments, self._segment)
        return _DONE
