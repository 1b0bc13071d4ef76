"""The fix of a message: "did you mean", or what exists."""

from collections.abc import Collection
from difflib import get_close_matches


def did_you_mean(word: str, known: Collection[str]) -> str:
    """Return a sentence that names the nearest known words, or all of them when they are few, or ""."""
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"Did you mean '{near[0]}'?"
    if not known:
        return "None is declared."
    names = sorted(known)
    return "There is: " + ", ".join(names[:12]) + (" …" if len(names) > 12 else ".")
