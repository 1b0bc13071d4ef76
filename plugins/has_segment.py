"""Tell whether the profile is in a segment."""

from pydantic import Field

from headrace.engine.plugin import Config, Example, Out, Plugin, SegmentName, Step

_TRUE = Out("true")
_FALSE = Out("false")


class HasSegmentConfig(Config):
    segment: SegmentName = Field(description="The segment.", examples=["vip"])


class HasSegment(Plugin[HasSegmentConfig]):
    ports = {"true": "The profile is in the segment.", "false": "It is not, or there is no profile."}
    examples = (
        Example({"segment": "vip"}, "true", profile={"segments": ["vip"]}),
        Example({"segment": "vip"}, "false", profile=None),
    )

    def run(self, step: Step) -> Out:
        return _TRUE if self.config.segment in step.profile.get("segments", ()) else _FALSE
