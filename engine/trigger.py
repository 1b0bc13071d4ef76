"""What makes a workflow run: the member `on` of its file."""

from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from headrace.engine.config import fields
from headrace.engine.config.literals import Duration, Zone
from headrace.engine.cron import Cron

MAX_EVENT_NAMES = 200
"""Names in one `on.event`."""

LONGEST_LATE = timedelta(days=7)
"""How late a schedule may run; what it is for is old by then."""

EventName = Annotated[str, StringConstraints(max_length=128)]


class FileModel(BaseModel):
    """The root of what stands in a workspace file: an unknown member is a problem."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True
    )


def _check_late(late: timedelta) -> timedelta:
    if late > LONGEST_LATE:
        raise ValueError(f"a schedule may run at most {LONGEST_LATE.days} days late")
    return late


class Schedule(FileModel):
    """When a workflow runs by itself, and for whom."""

    cron: Cron = Field(
        description="Minute, hour, day of the month, month, day of the week.", examples=["0 9 * * 1"]
    )
    zone: Zone | None = Field(
        None,
        description="The time zone of the cron; the server's `HEADRACE_TIME_ZONE` if not given.",
        examples=["Europe/Oslo"],
    )
    segment: fields.SegmentName | None = Field(
        None, description="Once for each profile in this segment; without it once, without a profile."
    )
    source: fields.SourceName | None = Field(
        None,
        description="The source of its events; default: the first of `on.source`, else the first of all.",
    )
    late: Annotated[Duration, AfterValidator(_check_late)] = Field(
        timedelta(hours=1),
        description="How late it may run when no server was there; of several that were missed only the last runs.",
        json_schema_extra={"default": "1h"},
    )


class On(FileModel):
    """Which events a workflow takes, or when it runs by itself."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": [name]} for name in ("event", "schedule", "started")]}
    )

    event: list[EventName] = Field(
        [],
        min_length=1,
        max_length=MAX_EVENT_NAMES,
        description="Event types; `*` stands for any text.",
        examples=[["purchase-order"], ["cart-*"]],
    )
    schedule: Schedule | None = Field(None, description="Runs by itself, at certain times.")
    started: bool = Field(
        default=False, description="True: it may stand without `event`, since other workflows start it."
    )
    source: list[fields.SourceName] | None = Field(None, description="Only events of these sources.")
    when: fields.Expression | None = Field(None, description="Only events for which this is true.")
    consent: list[str] = Field([], description="Only profiles that gave all of these consents.")
    before_consent: bool = Field(
        default=False,
        description="True: it runs also while `consents` of the source are missing. For what records them.",
    )

    @model_validator(mode="after")
    def _takes_something(self) -> "On":
        if not (self.event or self.schedule or self.started):
            fix = 'Add "event", "schedule", or "started": true if other workflows start it.'
            raise PydanticCustomError("nothing", "the workflow would never run", {"fix": fix})
        return self
