"""Segments by HTTP: which there are, and who is in them."""

from typing import Annotated

from msgspec import Meta
from starlette.requests import Request

from headrace.api.needs import EngineNeeds
from headrace.api.problems import Reply, json_reply, not_found
from headrace.api.reading import Items, OfTenant, Word, read_query
from headrace.engine.model import utc_now
from headrace.engine.segments.explain import explain
from headrace.engine.segments.known import describe
from headrace.engine.suggest import did_you_mean


class OfMember(OfTenant, kw_only=True):
    """A question about a profile and a segment."""

    profile: Annotated[Word, Meta(description="The profile's id.")]


class Segments:
    """Answers who asks why."""

    def __init__(self, engine: EngineNeeds) -> None:
        self._engine = engine

    async def segments(self, request: Request) -> Reply:
        """Return the segments that are declared."""
        query, _ = read_query(request, OfTenant)
        workspace = self._engine.workspace
        told = await describe(
            self._engine.store, query.tenant, workspace.declared.segments or {}, workspace.watched
        )
        return json_reply(Items(told, None))

    async def explain_segment(self, request: Request) -> Reply:
        """Return each part of a segment's condition with its value for a profile."""
        query, _ = read_query(request, OfMember)
        workspace, name = self._engine.workspace, request.path_params["name"]
        computed = {segment.name: segment for segment in workspace.watched.segments}
        if name not in computed:
            is_there = name in (workspace.declared.segments or {})
            reason = (
                "Nodes put profiles into this segment; it has no condition."
                if is_there
                else f"There is no such segment. {did_you_mean(name, computed)}"
            )
            return not_found(reason, "no_condition" if is_there else "no_segment")
        told = await explain(
            self._engine.store, workspace.sources, query.tenant, computed[name], query.profile, utc_now()
        )
        return not_found("There is no such profile.", "no_profile") if told is None else json_reply(told)
