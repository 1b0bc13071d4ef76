"""Find an earlier event of the profile.

The node's result is the event: `nodes.<name>.properties.total`.
"""

from pydantic import Field

from headrace.engine.plugin import Config, Duration, EventName, Example, Out, Plugin, Step, plain

_PAST = [
    {"id": "e-2", "type": "page-view", "time": {"happened": "2026-01-15T10:00:00.000Z"}},
    {"id": "e-1", "type": "purchase-order", "time": {"happened": "2026-01-10T10:00:00.000Z"}},
]


class PreviousEventConfig(Config):
    type: EventName | None = Field(
        None, description="Only events of this type; without it, of any type.", examples=["purchase-order"]
    )
    within: Duration | None = Field(None, description="Only events that are not older.", examples=["30d"])
    back: int = Field(
        1, ge=1, le=1000, description="Which one, counted from the newest: 1 is the last before this."
    )


class PreviousEvent(Plugin[PreviousEventConfig]):
    uses = {"store"}
    ports = {"found": "There is such an event.", "not_found": "There is none, or there is no profile."}
    examples = (
        Example({"type": "purchase-order"}, "found", past=_PAST),
        Example({"back": 2}, "found", past=_PAST),
        Example({"type": "purchase-order", "within": "2d"}, "not_found", past=_PAST),
    )

    async def run(self, step: Step) -> Out:
        config = self.config
        found = await step.find_events(type=config.type, within=config.within, limit=config.back)
        return Out("found", plain(found[config.back - 1])) if len(found) >= config.back else Out("not_found")
