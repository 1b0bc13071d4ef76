"""Segments: the names in segments.json that nodes may write."""

from typing import Annotated

from pydantic import Field, StringConstraints

from headrace.engine.trigger import FileModel

SegmentId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^\S(.*\S)?$")]


class Segment(FileModel):
    """A named group of profiles."""

    about: str = Field("", description="Who is in it.")


class SegmentsFile(FileModel):
    """segments.json: every segment that a workflow may name."""

    schema_: str | None = Field(
        None, alias="$schema", description="The JSON Schema, for completion in an editor."
    )
    segments: dict[SegmentId, Segment] = Field(description="Segments by name.", examples=[{"vip": {}}])
