"""Step 10: which segments does the profile enter or leave?"""

from headrace.engine.passage import Passage


def evaluate_segments(passage: Passage) -> None:
    """Do nothing yet: a segment is a name that nodes write, without a condition of its own."""
