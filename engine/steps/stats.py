"""Counts visits, views and events of profile and session."""

from headrace.engine.draft import Draft
from headrace.engine.passage import Passage

PAGE_VIEWS = frozenset(("page-view", "page_view", "page"))
"""Event types that count as a view of a page."""


def count_visit(draft: Draft) -> None:
    """Count the visit that a new session begins."""
    profile = draft.profile
    if profile is not None:
        profile["stats"]["visits"] += 1
        profile["time"]["last_visit"] = draft.now
        draft.touched.add("profile")


def count_event(passage: Passage) -> None:
    """Count an event in its session, and a view of a page also in its profile."""
    draft = passage.draft
    session = draft.session
    if session is not None:
        session["stats"]["events"] += 1
        draft.touched.add("session")
    if passage.event["type"] not in PAGE_VIEWS or "replay_of" in passage.event:
        # A page that was seen once is not seen again because its event is replayed.
        return
    if session is not None:
        session["stats"]["views"] += 1
    if draft.profile is not None:
        draft.profile["stats"]["views"] += 1
        draft.touched.add("profile")
