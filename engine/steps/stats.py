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
    is_view = passage.event["type"] in PAGE_VIEWS
    if draft.session is not None:
        draft.session["stats"]["events"] += 1
        draft.session["stats"]["views"] += is_view
        draft.touched.add("session")
    if is_view and draft.profile is not None:
        draft.profile["stats"]["views"] += 1
        draft.touched.add("profile")
