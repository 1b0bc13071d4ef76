"""What one evaluation may cost, and the error when it costs more."""

from typing import Final

EXPRESSION_CHARS: Final = 8_192
"""Longest text of an expression."""
TEMPLATE_CHARS: Final = 65_536
"""Longest text of a template."""
DEPTH: Final = 40
"""Deepest nesting of an expression or of a template's blocks."""
LOOP_DEPTH: Final = 8
"""Deepest nesting of loops."""
LOOP_NAMES: Final = 10
"""Names that one loop may set."""
LOOP_ROUNDS: Final = 1_000
"""Rounds of all loops of one rendering together."""
RESULT_BYTES: Final = 1 << 20
"""Largest text, or value, that an evaluation may give or make on its way."""
WORK: Final = 2 << 20
"""Work of one evaluation: characters of texts that it makes, 8 for an item of a list that it makes, 4 for a value that
it compares or looks at in a list, 24 or more for a value that `jsonpath` searches, 1 for 32 characters that a pattern
scans."""
ITEMS: Final = 10_000
"""Longest list that an evaluation may make."""
INTEGER_BITS: Final = 1_024
"""Largest integer that arithmetic may give; a larger one is missing."""


class EvaluationError(Exception):
    """An evaluation that cannot go on; it becomes a NodeError that names the expression."""


class Work:
    """Counts the work of an evaluation."""

    __slots__ = ("spent",)

    def __init__(self) -> None:
        self.spent = 0

    def spend(self, work: int) -> None:
        """Count some work; raise EvaluationError when it is too much."""
        self.spent += work
        if self.spent > WORK:
            raise EvaluationError(
                "it takes too much work: the texts and lists that it makes or reads are too large"
            )


def check_size(chars: int) -> None:
    """Raise EvaluationError when a text that is about to be made would be too long."""
    if chars > RESULT_BYTES:
        raise EvaluationError("the result is larger than 1 MiB")


def check_items(count: int) -> None:
    """Raise EvaluationError when a list that is about to be made would be too long."""
    if count > ITEMS:
        raise EvaluationError(f"a list of more than {ITEMS:,} items")


def check_value(value: object) -> None:
    """Raise EvaluationError when a value, written as JSON, would take more than 1 MiB or nests too deeply to write."""
    left = RESULT_BYTES
    pending = [(value, 0)]
    while pending:
        item, depth = pending.pop()
        left -= 2
        if isinstance(item, str):
            left -= len(item)
        elif isinstance(item, dict | list):
            if depth > 200:
                raise EvaluationError("the result nests more than 200 deep")
            left -= 2 * len(item)
            if left >= 0:
                children = item
                if isinstance(item, dict):
                    left -= sum(map(len, item))
                    children = list(item.values())
                pending.extend((child, depth + 1) for child in children)
        if left < 0:
            raise EvaluationError("the result is larger than 1 MiB")
