"""Tell whether the profile did several things one after another.

Other events may come in between. This event counts as the newest. Looked at are the newest 1,000 events of the
profile that are not older than `within`, in the order in which they happened. When they match, the node's result has
the newest events that do, oldest first: `nodes.<name>.events[0].id`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from headrace.engine.plugin import Config, Duration, EventName, Example, Out, Plugin, Step

_BUY = {"events": ["product-view", "cart-add", "order"], "within": "1h"}
_PAST = [
    {"id": "e-3", "type": "cart-add", "time": {"happened": "2026-01-15T11:50:00.000Z"}},
    {"id": "e-2", "type": "page-view", "time": {"happened": "2026-01-15T11:40:00.000Z"}},
    {"id": "e-1", "type": "product-view", "time": {"happened": "2026-01-15T11:30:00.000Z"}},
]


class EventSequenceConfig(Config):
    events: list[EventName] = Field(
        min_length=2,
        max_length=20,
        description="Types of events, the first one first.",
        examples=[["cart", "order"]],
    )
    within: Duration = Field(
        description="How long ago the first one may be, at most.", examples=["1h", "30d"]
    )


class EventSequence(Plugin[EventSequenceConfig]):
    uses = {"store"}
    ports = {
        "matched": "The profile did all of it, in this order.",
        "not_matched": "It did not, or not within the time, or there is no profile.",
    }
    examples = (
        Example(
            _BUY,
            "matched",
            event={"id": "e-4", "type": "order"},
            past=_PAST,
            result={
                "events": [
                    {"id": "e-1", "type": "product-view", "happened": "2026-01-15T11:30:00.000Z"},
                    {"id": "e-3", "type": "cart-add", "happened": "2026-01-15T11:50:00.000Z"},
                    {"id": "e-4", "type": "order", "happened": "2026-01-15T12:00:00.000Z"},
                ]
            },
        ),
        Example({**_BUY, "within": "20m"}, "not_matched", event={"type": "order"}, past=_PAST),
        Example(
            {"events": ["cart-add", "product-view"], "within": "1d"},
            "not_matched",
            "It was the other way round.",
            past=_PAST,
        ),
    )

    async def run(self, step: Step) -> Out:
        if not step.profile:
            return Out("not_matched")
        # Newest first by arrival: among those that happened at the same moment, that order stays.
        newest = [step.event, *await step.find_events(within=self.config.within, limit=1000)]
        newest.sort(key=lambda event: str(event["time"]["happened"]), reverse=True)
        found = list(_matching(newest, self.config.events))
        if len(found) < len(self.config.events):
            return Out("not_matched")
        return Out("matched", {"events": found[::-1]})


def _matching(newest: Sequence[Any], types: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield the newest events that match, the last of the types first, as far as they do."""
    left = list(types)
    for event in newest:
        if left and event["type"] == left[-1]:
            left.pop()
            yield {"id": event["id"], "type": event["type"], "happened": event["time"]["happened"]}
