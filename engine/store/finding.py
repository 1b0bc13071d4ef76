"""What a look at a store found."""

from typing import Literal, NamedTuple

Level = Literal["fine", "note", "problem", "away"]
"""`note`: good to know, or soon a problem; `away`: the store cannot be reached, so nothing else is known."""


class Finding(NamedTuple):
    """One line: how bad, about what in a word or two, a sentence that says what to do where there is something."""

    level: Level
    name: str
    text: str
