"""The read API: profiles, sessions, events, what happened to them, and erasing."""

import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from headrace.api.doors.body import query_pairs
from headrace.api.needs import EngineNeeds
from headrace.api.problems import Reply, json_reply, not_found
from headrace.engine.errors import FieldError, InputError
from headrace.engine.identity import person
from headrace.engine.identity.follow import find_living, ids_of
from headrace.engine.model import Doc, make_key
from headrace.engine.outbox.effects import EffectStatus
from headrace.engine.store.encoding import encode_doc
from headrace.engine.store.protocol import Ask, AskKind, Query, State
from headrace.engine.story import story_of_refused
from headrace.engine.suggest import did_you_mean
from headrace.engine.timers.waiting import TimerStatus

Word = Annotated[str, Meta(max_length=256)]
Cursor = Annotated[str, Meta(max_length=1024)]
_KEY = re.compile(r"[0-9a-f]{32}")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_TIMES = ("from", "to")
_WHOSE = ("tenant", "profile", "session", "event")
"""Without a value, from a variable that is not set, these would ask about everybody."""
_FILTER = "traits."
_MAX_FILTERS = 20
NDJSON = "application/x-ndjson"
"""A JSON value a line."""


class OfTenant(msgspec.Struct, forbid_unknown_fields=True):
    """What every question may say."""

    tenant: Annotated[Word, Meta(description="Whose data it is.")] = "main"


class OfSource(OfTenant):
    """A question about one event."""

    source: Annotated[Word | None, Meta(description="The source that sent it, when two used one id.")] = None


class Listed(OfTenant):
    """What every list may say."""

    cursor: Annotated[Cursor | None, Meta(description="What the page before gave.")] = None
    limit: Annotated[int, Meta(ge=1, le=500, description="Most items of a page.")] = 50


class Span(Listed, rename={"since": "from", "until": "to"}):
    """A list of a time."""

    since: Annotated[
        datetime | None, Meta(description="Not before this day or time (UTC when it names no zone).")
    ] = None
    until: Annotated[datetime | None, Meta(description="Before this time.")] = None


class OfProfiles(Listed):
    """Which profiles; `traits.<name>=<value>` may be added any number of times."""

    segment: Annotated[Word | None, Meta(description="In this segment.")] = None


class OfEvents(Span):
    """Which events."""

    type: Annotated[Word | None, Meta(description="Of this type.")] = None
    source: Annotated[Word | None, Meta(description="From this source.")] = None
    profile: Annotated[Word | None, Meta(description="Of the profile with this id.")] = None
    session: Annotated[Word | None, Meta(description="Of the session with this id.")] = None


class OfSessions(Span):
    """Which sessions."""

    source: Annotated[Word | None, Meta(description="From this source.")] = None
    profile: Annotated[Word | None, Meta(description="Of the profile with this id.")] = None


def _one_of(words: Any) -> str:
    *most, last = get_args(words)
    return f"{', '.join(most)} or {last}."


class OfEffects(Span):
    """Which effects."""

    status: Annotated[EffectStatus | None, Meta(description=_one_of(EffectStatus))] = None
    profile: Annotated[Word | None, Meta(description="Of the profile with this id.")] = None
    event: Annotated[Word | None, Meta(description="Of the event with this key.")] = None


class OfTimers(Span):
    """Which timers."""

    status: Annotated[TimerStatus | None, Meta(description=_one_of(TimerStatus))] = None
    profile: Annotated[Word | None, Meta(description="Of the profile with this id.")] = None
    event: Annotated[Word | None, Meta(description="Of the event with this key.")] = None


class OfFailed(Span):
    """Which failed events."""

    type: Annotated[Word | None, Meta(description="Of this type.")] = None
    source: Annotated[Word | None, Meta(description="From this source.")] = None
    all: Annotated[bool, Meta(description="Also those that were sent again.")] = False


class Items(msgspec.Struct):
    """A page of documents, newest first; `cursor` asks for the next and is null at the end."""

    items: list[Doc]
    cursor: str | None


class Erased(msgspec.Struct):
    """How many documents of each kind were erased."""

    erased: dict[str, int]


Q = TypeVar("Q", bound=OfTenant)


def read_query(request: Request, shape: type[Q]) -> tuple[Q, dict[str, str]]:
    """Return the query of a request and its `traits.` filters. Raises InputError 422."""
    pairs = query_pairs(request.scope["query_string"])
    where = {}
    if shape is OfProfiles:
        where = {name: _single(name, pairs[name]) for name in pairs if name.startswith(_FILTER)}
        if len(where) > _MAX_FILTERS:
            raise _bad_query(_FILTER, f"may be asked for at most {_MAX_FILTERS} times at once")
    given = {name: value for name, value in pairs.items() if name not in where}
    known = [field.encode_name for field in msgspec.structs.fields(shape)]
    for name, value in list(given.items()):
        if name not in known:
            raise _bad_query(name, f"is not known here. {did_you_mean(name, known)}".strip())
        if value == "":
            if name in _WHOSE:
                raise _bad_query(name, "has no value: give one, or leave it out")
            del given[name]
        elif name in _TIMES and isinstance(value, str):
            given[name] = _time_text(name, value)
    try:
        return msgspec.convert(given, shape, strict=False), where
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$.")
        place = place.rstrip("`")
        if isinstance(value := given.get(place), str) and (words := _words(shape, place)):
            message = f"there is no {value[:100]!r}. {did_you_mean(value, words)}"
        raise _bad_query(
            place or "the query", f"cannot be used: {message[:1].lower()}{message[1:]}"
        ) from None


def _time_text(name: str, text: str) -> str:
    """Return a time as it is read: a day begins at midnight. A number is no time: it may be seconds or a year."""
    day = _DAY.match(text)
    if day is None:
        raise _bad_query(name, "should be a day as 2026-01-31 or a time as 2026-01-31T09:30:00Z")
    return f"{text}T00:00:00Z" if day.end() == len(text) else text


def _words(shape: type[OfTenant], name: str) -> tuple[str, ...]:
    """Return the words that a parameter may be, when they are a few."""
    kinds = get_args(get_type_hints(shape).get(name))
    return tuple(word for kind in kinds for word in get_args(kind))


def _single(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    raise _bad_query(name, "stands more than once")


def _bad_query(name: str, message: str) -> InputError:
    detail = f"The query parameter {name[:100]} {message}"
    return InputError(422, "bad_query", detail, [FieldError("", f"{name[:100]} {message}")])


class Reading:
    """Answers questions from the engine's store."""

    def __init__(self, engine: EngineNeeds) -> None:
        self._engine = engine
        self._store = engine.store

    async def profile(self, request: Request) -> Reply:
        """Return the profile that an id means, be it one of a profile that was merged."""
        query, _ = read_query(request, OfTenant)
        doc = await find_living(self._store, query.tenant, request.path_params["id"])
        return not_found("There is no such profile.", "no_profile") if doc is None else json_reply(doc)

    async def session(self, request: Request) -> Reply:
        """Return one session."""
        return await self._one(request, "session")

    async def _one(self, request: Request, kind: AskKind) -> Reply:
        query, _ = read_query(request, OfTenant)
        doc = await self._store.get(kind, make_key(kind, query.tenant, request.path_params["id"]))
        # A session that was not to be saved only remembers its profile.
        if doc is None or doc.get("hidden"):
            return not_found(f"There is no such {kind}.", f"no_{kind}")
        return json_reply(doc)

    async def event(self, request: Request) -> Reply:
        """Return one event by its key or the id that the client gave it."""
        return json_reply(await self._find_event(request))

    async def story(self, request: Request) -> Reply:
        """Return what happened to an event."""
        try:
            event = await self._find_event(request)
        except InputError as error:
            query, _ = read_query(request, OfSource)
            refused = await story_of_refused(
                self._store, query.tenant, request.path_params["id"], query.source
            )
            if error.status != 404 or refused is None:
                raise
            return json_reply(refused)
        story = await self._engine.story(event["tenant"], event["key"])
        return json_reply(event if story is None else story)

    async def _find_event(self, request: Request) -> Doc:
        query, _ = read_query(request, OfSource)
        found: dict[str, Doc] = {}
        for key, source in self._keys(query, request.path_params["id"]):
            doc = await self._store.get("event", key)
            if doc is not None and doc["tenant"] == query.tenant:
                if not source:
                    return doc
                found[source] = doc
        if not found:
            raise InputError(404, "no_event", "There is no such event.")
        if len(found) > 1:
            detail = f"Sources that sent an event with this id: {', '.join(found)}. Say which: ?source=."
            raise InputError(409, "many_events", detail, [FieldError("", source) for source in found])
        return next(iter(found.values()))

    def _keys(self, query: OfSource, event_id: str) -> Iterable[tuple[str, str]]:
        """Yield the keys that an id may mean, each with its source; the id may be a key itself."""
        if query.source is None and _KEY.fullmatch(event_id):
            yield event_id, ""
        sources: Iterable[str] = [query.source] if query.source else self._sources(query.tenant)
        for source in sources:
            yield make_key("event", query.tenant, source, event_id), source

    def _sources(self, tenant: str) -> list[str]:
        sources = self._engine.workspace.sources
        return [name for name, source in sources.items() if source.tenant == tenant]

    async def profiles(self, request: Request) -> Reply:
        """Return profiles by traits and segment."""
        query, where = read_query(request, OfProfiles)
        if query.segment:
            where["segments"] = query.segment
        return await self._list(
            Query("profile", query.tenant, where=where, cursor=query.cursor, limit=query.limit)
        )

    async def events(self, request: Request) -> Reply:
        """Return events."""
        query, _ = read_query(request, OfEvents)
        span = spanned(query, "event")
        owner = await owner_of(self._store, query.tenant, query.profile)
        return await self._list(
            replace(span, type=query.type, source=query.source, profile=owner, session=query.session)
        )

    async def sessions(self, request: Request) -> Reply:
        """Return sessions."""
        query, _ = read_query(request, OfSessions)
        owner = await owner_of(self._store, query.tenant, query.profile)
        return await self._list(replace(spanned(query, "session"), source=query.source, profile=owner))

    async def _list(self, query: Query) -> Reply:
        page = await self._store.find(query)
        return json_reply(Items(page.items, page.cursor))

    async def export(self, request: Request) -> Reply | Response:
        """Return all that is kept of a person, a line each."""
        query, _ = read_query(request, OfTenant)
        docs = person.export(self._store, query.tenant, request.path_params["id"])
        first = await anext(docs, None)
        if first is None:
            return not_found("There is no such profile.", "no_profile")
        return StreamingResponse(_lines(first, docs), media_type=NDJSON)

    async def erase(self, request: Request) -> Reply:
        """Erase a person and everything that belongs to them."""
        query, _ = read_query(request, OfTenant)
        gone = await self._engine.erase(query.tenant, request.path_params["id"])
        if not any(gone.values()):
            return not_found("There is no such profile.", "no_profile")
        return json_reply(Erased(gone))


async def one_doc(store: Ask, request: Request, kind: AskKind, missing: str) -> Doc:
    """Return the document that a path names by its key. Raises InputError 404, which says what is `missing`."""
    query, _ = read_query(request, OfTenant)
    doc = await store.get(kind, request.path_params["id"])
    if doc is None or doc["tenant"] != query.tenant:
        raise InputError(404, f"no_{kind}", missing)
    return doc


async def _lines(first: Doc, docs: AsyncIterator[Doc]) -> AsyncIterator[bytes]:
    """Yield documents as lines of JSON."""
    yield encode_doc(first) + b"\n"
    async for doc in docs:
        yield encode_doc(doc) + b"\n"


async def owner_of(store: State, tenant: str, profile: str | None) -> tuple[str, ...] | None:
    """Return the ids under which the documents of a profile stand; None when none is asked for."""
    return None if profile is None else await ids_of(store, tenant, profile)


def spanned(query: Span, kind: AskKind, **more: str | tuple[str, ...] | None) -> Query:
    """Return the question of a list; `more` are members of `Query`."""
    return Query(
        kind,
        query.tenant,
        since=_utc(query.since),
        until=_utc(query.until),
        cursor=query.cursor,
        limit=query.limit,
        **more,  # type: ignore[arg-type]
    )


def _utc(time: datetime | None) -> datetime | None:
    if time is None:
        return None
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:
        raise _bad_query("from or to", "is no time that there is in UTC") from None
