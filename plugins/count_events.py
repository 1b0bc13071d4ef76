"""Count the profile's earlier events and compare.

This event is not counted. The node's result has the number as `count`.
"""

from pydantic import Field

from headrace.engine.plugin import Config, Duration, EventName, Example, Out, Plugin, Step

_PAST = [
    {"id": "e-2", "type": "cart-left", "time": {"happened": "2026-01-15T10:00:00.000Z"}},
    {"id": "e-1", "type": "cart-left", "time": {"happened": "2026-01-01T10:00:00.000Z"}},
]


class CountEventsConfig(Config):
    type: EventName | None = Field(
        None, description="Only events of this type; without it, of any type.", examples=["cart-left"]
    )
    within: Duration | None = Field(None, description="Only events that are not older.", examples=["7d"])
    at_least: int = Field(1, ge=0, description="How many are enough.")


class CountEvents(Plugin[CountEventsConfig]):
    uses = {"store"}
    ports = {"enough": "There are at least so many.", "too_few": "There are fewer, or there is no profile."}
    examples = (
        Example({"type": "cart-left", "at_least": 2}, "enough", past=_PAST, result={"count": 2}),
        Example(
            {"type": "cart-left", "at_least": 2, "within": "7d"}, "too_few", past=_PAST, result={"count": 1}
        ),
    )

    async def run(self, step: Step) -> Out:
        count = await step.count_events(type=self.config.type, within=self.config.within)
        return Out("enough" if count >= self.config.at_least else "too_few", {"count": count})
