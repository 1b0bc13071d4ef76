"""Profiles by HTTP: merge two, take them apart again."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request

from headrace.api.bodies import Bodies
from headrace.api.doors.fields import Findings
from headrace.api.needs import EngineNeeds
from headrace.api.problems import Reply, json_reply, not_found, problem
from headrace.api.reading import OfTenant, read_query
from headrace.engine.identity.follow import find_living
from headrace.engine.identity.merge import Refused, preview
from headrace.engine.model import Doc
from headrace.engine.strict_json import decode

BY = "api"
"""What the record of a merge by HTTP says."""

LARGEST_BODY = 16 * 1024


class WithWhom(msgspec.Struct, forbid_unknown_fields=True, rename={"other": "with"}):
    """With whom to merge a profile."""

    other: Annotated[str, Meta(min_length=1, max_length=256, description="The id of the other profile.")]
    dry_run: Annotated[bool, Meta(description="Only say what would come of it.")] = False


class Merged(msgspec.Struct):
    """Two profiles that are one now, or would be."""

    survivor: Annotated[str, Meta(description="The older profile, which lives on.")]
    merged: Annotated[str, Meta(description="The other one; its id goes on to find the survivor.")]
    dry_run: bool
    profile: Annotated[Doc, Meta(description="The survivor with what both knew.")]
    changes: Annotated[list[Doc], Meta(description="What became of each field, and by which strategy.")]


class TakenApart(msgspec.Struct):
    """Two profiles that were one."""

    profile: Annotated[Doc, Meta(description="The profile that is there again.")]
    survivor: Annotated[Doc, Meta(description="The one that it had been merged into.")]


class Profiles:
    """Answers those who say which profiles are one person."""

    def __init__(self, engine: EngineNeeds, bodies: Bodies) -> None:
        self._engine = engine
        self._bodies = bodies

    async def merge(self, request: Request) -> Reply:
        """Merge two profiles, or say what would come of it."""
        query, _ = read_query(request, OfTenant)
        wanted = with_whom(decode(await self._bodies.read(request, LARGEST_BODY)))
        store, one = self._engine.store, request.path_params["id"]
        folded = await preview(store, query.tenant, one, wanted.other, self._engine.workspace.merge_rules)
        if isinstance(folded, Refused):
            return refusal(folded)
        made = folded.result
        if not wanted.dry_run:
            survivor = await self._engine.merge(query.tenant, one, wanted.other, BY)
            made = await find_living(store, query.tenant, survivor) or made
        return json_reply(Merged(made["id"], folded.loser["id"], wanted.dry_run, made, folded.changes))

    async def unmerge(self, request: Request) -> Reply:
        """Take a profile out of the one that it was merged into."""
        query, _ = read_query(request, OfTenant)
        done = await self._engine.unmerge(query.tenant, request.path_params["id"])
        if isinstance(done, Refused):
            return refusal(done)
        profile, survivor = [
            await find_living(self._engine.store, query.tenant, id) or {}
            for id in (done.profile, done.survivor)
        ]
        return json_reply(TakenApart(profile, survivor))


def refusal(refused: Refused) -> Reply:
    """Return why nothing was done as an answer."""
    if refused.code == "no_profile":
        return not_found(refused.reason, refused.code)
    return problem(409, refused.code, refused.reason)


def with_whom(body: Any) -> WithWhom:
    """Return with whom to merge. Raises InputError 422 with every bad field."""
    find = Findings()
    given = find.object(body, "")
    find.only(given, ("with", "dry_run"))
    other, dry_run = find.id(given.get("with"), "/with"), find.flag(given, "dry_run", "", default=False)
    find.stop_if_bad()
    return WithWhom(other, dry_run)
