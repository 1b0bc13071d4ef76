"""Step 11: which goals did the event achieve?"""

from headrace.engine.passage import Passage


def evaluate_goals(passage: Passage) -> None:
    """Do nothing yet: a goal is declared, but its condition is not watched so far."""
