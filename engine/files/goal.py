"""Goals: the names in goals.json."""

from typing import Annotated

from pydantic import Field, StringConstraints

from headrace.engine.trigger import FileModel

GoalId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^\S(.*\S)?$")]


class Goal(FileModel):
    """Something that is hoped for."""

    about: str = Field("", description="What has been achieved.")


class GoalsFile(FileModel):
    """goals.json: every goal, by its name."""

    schema_: str | None = Field(
        None, alias="$schema", description="The JSON Schema, for completion in an editor."
    )
    goals: dict[GoalId, Goal] = Field(description="Goals by name.")
