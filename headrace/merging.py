"""Draws what a merge makes of two profiles."""

from typing import Any

from rich.table import Table

from headrace.engine.identity.merge import Folded
from headrace.engine.identity.strategies import is_same
from headrace.engine.language.lookup import MISSING
from headrace.engine.model import Doc
from headrace.engine.testing.expectation import shown
from headrace.engine.writing.path import path_text
from headrace.terminal import plain

LONGEST = 60


def result_table(folded: Folded) -> Table:
    """Return each field that the loser has: both values, what it becomes, and by which strategy."""
    table = Table("field", "older", "younger", "becomes", "strategy", box=None, pad_edge=False)
    for change in folded.changes:
        before, after = change.get("before", MISSING), change.get("after", MISSING)
        is_kept = is_same(before, after)
        becomes = "[dim]as it is[/]" if is_kept else f"[green]{text_of(change, 'after')}[/]"
        field = path_text("profile", tuple(change["path"]))
        brought = text_of(change, "brought")
        table.add_row(plain(field), text_of(change, "before"), brought, becomes, change["strategy"])
    table.add_row(
        "profile.ids", _listed(folded.survivor), _listed(folded.loser), _listed(folded.result), "union"
    )
    return table


def result_doc(folded: Folded) -> Doc:
    """Return the same for a program."""
    return {
        "survivor": folded.survivor["id"],
        "merged": folded.loser["id"],
        "profile": folded.result,
        "changes": folded.changes,
    }


def text_of(change: Doc, member: str) -> str:
    """Return a value of a change as it is shown; a dash for none."""
    return _short(change[member]) if member in change else "[dim]-[/]"


def _listed(profile: Doc) -> str:
    return _short(profile["ids"])


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else shown(value)
    return plain(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…")
