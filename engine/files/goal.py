"""Goals: what is hoped for, in goals.json."""

from typing import Annotated

from pydantic import Field, StringConstraints

from headrace.engine.config import fields
from headrace.engine.config.names import BARE
from headrace.engine.trigger import MAX_EVENT_NAMES, EventName, FileModel

GoalId = Annotated[str, StringConstraints(min_length=1, max_length=128), BARE]


class Goal(FileModel):
    """Something that is hoped for: an event of some types, for which a condition is true."""

    about: str = Field("", description="What has been achieved.")
    event: list[EventName] = Field(
        [],
        min_length=1,
        max_length=MAX_EVENT_NAMES,
        description="Event types that achieve it; `*` stands for any text. Without them nothing does.",
        examples=[["purchase-order"]],
    )
    when: fields.Expression | None = Field(
        None, description="Only events for which this is true.", examples=["event.properties.total > 0"]
    )
    value: fields.Value[int | float] | None = Field(
        None, description="What it is worth.", examples=["{{ event.properties.total }}"]
    )


class GoalsFile(FileModel):
    """goals.json: every goal, by its name."""

    schema_: str | None = Field(
        None, alias="$schema", description="The JSON Schema, for completion in an editor."
    )
    goals: dict[GoalId, Goal] = Field(description="Goals by name.")
