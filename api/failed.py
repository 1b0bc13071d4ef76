"""Failed events by HTTP: list them, see one, send it again."""

from dataclasses import replace
from typing import Any

from starlette.requests import Request

from headrace.api.bodies import Bodies
from headrace.api.doors.fields import Findings, read_event
from headrace.api.needs import EngineNeeds
from headrace.api.problems import Reply, json_reply, problem
from headrace.api.reading import Items, OfFailed, one_doc, read_query, spanned
from headrace.engine import strict_json
from headrace.engine.errors import FieldError, InputError
from headrace.engine.model import Doc
from headrace.engine.replay.resend import NONE, Refused, resend
from headrace.engine.steps.failed import FAILED

MEMBERS = ("type", "properties", "context", "id", "time", "version")
"""What a failed event has of what was sent."""

_PLACE = "/events/0"
"""Where the engine sees the event; in the body it is all that there is."""


def mended(failed: Doc, changes: Any) -> Doc:
    """Return what was sent with some members changed. Raises InputError 422 with every bad one."""
    find = Findings()
    given = find.object(changes, "")
    find.only(given, MEMBERS)
    event = read_event(find, failed["raw"] | given)
    if given.get("id") not in (None, failed["event"]):
        find.bad("/id", "cannot be changed: the event stays the one that it was")
    find.stop_if_bad()
    raw = {name: getattr(event, name) for name in MEMBERS}
    return raw | {"id": failed["raw"]["id"]}


class Failed:
    """Answers those who look after events that were refused."""

    def __init__(self, engine: EngineNeeds, bodies: Bodies) -> None:
        self._engine = engine
        self._bodies = bodies

    async def failed(self, request: Request) -> Reply:
        """Return events that were refused, with the reasons."""
        query, _ = read_query(request, OfFailed)
        asked = replace(spanned(query, "failed"), type=query.type, source=query.source)
        page = await self._engine.store.find(asked if query.all else replace(asked, status=FAILED))
        return json_reply(Items(page.items, page.cursor))

    async def failed_event(self, request: Request) -> Reply:
        """Return one event that was refused."""
        return json_reply(await one_doc(self._engine.store, request, "failed", NONE.reason))

    async def resend_failed(self, request: Request) -> Reply:
        """Send an event again that was refused, with the changed members that the body has."""
        doc = await one_doc(self._engine.store, request, "failed", NONE.reason)
        changes = await self._changes(request)
        raw = mended(doc, changes) if changes is not None else None
        try:
            done = await resend(self._engine.parts, doc["tenant"], doc["id"], raw)
        except InputError as error:
            fields = [FieldError(each.pointer.removeprefix(_PLACE), each.message) for each in error.fields]
            raise InputError(error.status, error.code, error.detail.replace(_PLACE, ""), fields) from None
        if isinstance(done, Refused):
            return problem(404 if done == NONE else 409, done.code, done.reason)
        return json_reply(done)

    async def _changes(self, request: Request) -> Any:
        """Return the JSON of the body, or None when it is empty. Raises InputError, BusyError, ClientGoneError."""
        data = await self._bodies.read(request)
        return strict_json.decode(data) if data.strip() else None
