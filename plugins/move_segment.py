"""Move the profile from one segment to another."""

from pydantic import ConfigDict, Field

from headrace.engine.plugin import Config, Example, Out, Plugin, Step, WritePath, WrittenSegment

_MOVED = Out("moved")
_NOT_THERE = Out("not_there")
_UP = {"from": "new", "to": "vip"}


class MoveSegmentConfig(Config):
    model_config = ConfigDict(serialize_by_alias=True)

    source: WrittenSegment = Field(alias="from", description="The segment to leave.")
    to: WrittenSegment = Field(description="The segment to enter.", examples=["vip"])


class MoveSegment(Plugin[MoveSegmentConfig]):
    ports = {
        "moved": "The profile was in the one, and is in the other now.",
        "not_there": "It was not in the one, or there is no profile; nothing was changed.",
    }
    examples = (
        Example(
            _UP,
            "moved",
            profile={"segments": ["new", "buyer"]},
            changes={"profile.segments": ["buyer", "vip"]},
        ),
        Example(_UP, "not_there", profile={"segments": ["vip"]}, changes={"profile.segments": ["vip"]}),
    )

    def prepare(self) -> None:
        self._segments = WritePath("profile.segments")
        self._from, self._to = self.config.source, self.config.to
        if self._from == self._to:
            raise ValueError("'from' and 'to' are the same segment")

    def run(self, step: Step) -> Out:
        if self._from not in step.profile.get("segments", ()):
            return _NOT_THERE
        step.remove(self._segments, self._from)
        step.add(self._segments, self._to)
        return _MOVED
