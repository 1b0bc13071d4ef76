"""Timers by HTTP: list them, see one, cancel it."""

from starlette.requests import Request

from headrace.api.needs import EngineNeeds
from headrace.api.problems import Reply, json_reply, problem
from headrace.api.reading import Items, OfTenant, OfTimers, one_doc, owner_of, read_query, spanned
from headrace.engine.timers.cancel import Refused, cancel
from headrace.engine.timers.waiting import shown_timer

REASON = "cancelled by an operator"


class Timers:
    """Answers those who look after runs that wait."""

    def __init__(self, engine: EngineNeeds) -> None:
        self._engine = engine

    async def timers(self, request: Request) -> Reply:
        """Return timers, newest first."""
        query, _ = read_query(request, OfTimers)
        owner = await owner_of(self._engine.store, query.tenant, query.profile)
        page = await self._engine.store.find(
            spanned(query, "timer", status=query.status, profile=owner, event=query.event)
        )
        return json_reply(Items([shown_timer(doc) for doc in page.items], page.cursor))

    async def timer(self, request: Request) -> Reply:
        """Return one timer."""
        doc = await one_doc(self._engine.store, request, "timer", "There is no such timer.")
        return json_reply(shown_timer(doc))

    async def cancel_timer(self, request: Request) -> Reply:
        """Cancel a timer."""
        query, _ = read_query(request, OfTenant)
        done = await cancel(self._engine.store, query.tenant, request.path_params["id"], REASON)
        if isinstance(done, Refused):
            return problem(404 if done.code == "no_timer" else 409, done.code, done.reason)
        return json_reply(shown_timer(done))
