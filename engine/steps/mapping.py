"""Step 6: map the event to profile and session."""

from headrace.engine.passage import Passage


def map_fields(passage: Passage) -> None:
    """Do nothing yet: an event type cannot declare a mapping so far."""
