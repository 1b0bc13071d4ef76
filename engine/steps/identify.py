"""Step 7: join, merge or move by identifying values."""

from headrace.engine.passage import Passage


def identify(passage: Passage) -> None:
    """Do nothing yet: an event type cannot declare identifying values so far."""
