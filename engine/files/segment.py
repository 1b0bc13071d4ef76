"""Segments: the groups of segments.json, and the conditions of computed ones."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints

from headrace.engine.config.fields import Compiled, text_schema
from headrace.engine.config.names import BARE
from headrace.engine.language.expression import compile_expression
from headrace.engine.trigger import FileModel

SegmentId = Annotated[str, StringConstraints(min_length=1, max_length=128), BARE]

MOMENT = frozenset(("event", "session", "source"))
"""Names that mean something only while an event is there."""


class Condition(Compiled[Any]):
    """An expression that may count past events by `events(…)`.

    `past` are the aggregates that it asks for, by the names under which it finds their values in `Scope.extra`. One
    that `is_lasting` can be asked at any time, not only with an event; time alone may change one that `is_timed`.
    """

    __slots__ = ("_reads", "is_lasting", "is_timed", "past")
    json_schema: ClassVar[Mapping[str, Any]] = text_schema(
        "expression", "An expression, such as events('purchase-order', within='30d').count >= 3."
    )

    def __init__(self, source: str) -> None:
        compiled = compile_expression(source, has_past=True)
        super().__init__(source, compiled.evaluate)
        self._reads = compiled.reads
        self.past = compiled.past
        self.is_timed = compiled.is_timed
        self.is_lasting = not any(read[0] in MOMENT for read in compiled.reads)

    def reads(self) -> frozenset[tuple[str, ...]]:
        """Return the dotted paths that the condition reads."""
        return self._reads


class Segment(FileModel):
    """A named group of profiles: nodes put them there, or a condition does."""

    about: str = Field("", description="Who is in it.")
    when: Condition | None = Field(
        None,
        description="Who is in it is computed: all for whom this is true. No node can write it then.",
        examples=["profile.stats.counters.orders >= 3"],
    )


class SegmentsFile(FileModel):
    """segments.json: every segment that a workflow may name."""

    schema_: str | None = Field(
        None, alias="$schema", description="The JSON Schema, for completion in an editor."
    )
    segments: dict[SegmentId, Segment] = Field(description="Segments by name.", examples=[{"vip": {}}])
