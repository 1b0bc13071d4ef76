"""Tell whether it is a certain time of the day and week.

The time is that of the wall clock in `zone`. A window may go over midnight; it belongs to the day on which it
begins: 22:00 to 02:00 on `fri` holds until Saturday, 02:00.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal, get_args

from pydantic import Field

from headrace.engine.plugin import ClockTime, Config, Example, Out, Plugin, Step, Zone

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

_DAYS: tuple[Day, ...] = get_args(Day)
_INSIDE = Out("inside")
_OUTSIDE = Out("outside")
_OFFICE: Mapping[str, Any] = {
    "start": "09:00",
    "end": "17:00",
    "days": list(_DAYS[:5]),
    "zone": "Europe/Berlin",
}


class TimeBetweenConfig(Config):
    start: ClockTime = Field("00:00", description="When it begins, as HH:MM.", examples=["09:00"])
    end: ClockTime = Field(
        "24:00", description="When it ends, as HH:MM; this minute is outside.", examples=["17:00"]
    )
    days: list[Day] = Field(list(_DAYS), min_length=1, description="The days on which it begins.")
    zone: Zone | None = Field(
        None,
        description="The time zone; the server's `HEADRACE_TIME_ZONE` if not given.",
        examples=["Europe/Berlin"],
    )


class TimeBetween(Plugin[TimeBetweenConfig]):
    ports = {"inside": "It is within the window.", "outside": "It is not."}
    examples = (
        Example(_OFFICE, "inside", "A Thursday, noon in Berlin.", at="2026-01-15T11:00:00.000Z"),
        Example(_OFFICE, "outside", "17:00 in Berlin is the end.", at="2026-01-15T16:00:00.000Z"),
        Example(
            {"start": "22:00", "end": "02:00", "days": ["fri"]},
            "inside",
            "Saturday, one o'clock: Friday's window still holds.",
            at="2026-01-17T01:00:00.000Z",
        ),
    )

    def prepare(self) -> None:
        if self.config.start == self.config.end:
            raise ValueError("start and end are the same; for whole days leave both out")
        self._days = frozenset(_DAYS.index(day) for day in self.config.days)

    def run(self, step: Step) -> Out:
        start, end = self.config.start, self.config.end
        now = step.now.astimezone(self.config.zone or step.zone)
        clock = f"{now:%H:%M}"
        if start < end:
            inside = start <= clock < end
        else:
            inside = clock >= start or clock < end
            if clock < end:
                now -= timedelta(days=1)
        return _INSIDE if inside and now.weekday() in self._days else _OUTSIDE
