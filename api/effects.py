"""Effects by HTTP: list them, see one, send it again, drop it."""

from starlette.requests import Request

from headrace.api.needs import EngineNeeds
from headrace.api.problems import Reply, json_reply, problem
from headrace.api.reading import Items, OfEffects, OfTenant, one_doc, owner_of, read_query, spanned
from headrace.engine.outbox.effects import Deed, Refused, do, shown


class Effects:
    """Answers those who look after what is sent."""

    def __init__(self, engine: EngineNeeds) -> None:
        self._engine = engine

    async def effects(self, request: Request) -> Reply:
        """Return effects, newest first."""
        query, _ = read_query(request, OfEffects)
        owner = await owner_of(self._engine.store, query.tenant, query.profile)
        page = await self._engine.store.find(
            spanned(query, "effect", status=query.status, profile=owner, event=query.event)
        )
        return json_reply(Items([shown(doc) for doc in page.items], page.cursor))

    async def effect(self, request: Request) -> Reply:
        """Return one effect with its attempts."""
        doc = await one_doc(self._engine.store, request, "effect", "There is no such effect.")
        return json_reply(shown(doc))

    async def resend_effect(self, request: Request) -> Reply:
        """Send an effect again."""
        return await self._do(request, "resend")

    async def drop_effect(self, request: Request) -> Reply:
        """Drop an effect."""
        return await self._do(request, "drop")

    async def _do(self, request: Request, deed: Deed) -> Reply:
        query, _ = read_query(request, OfTenant)
        done = await do(self._engine.store, deed, query.tenant, request.path_params["id"])
        if isinstance(done, Refused):
            return problem(404 if done.code == "no_effect" else 409, done.code, done.reason)
        return json_reply(shown(done))
