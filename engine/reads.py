"""What nodes may look up, in the request and the store."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from headrace.engine.draft import Draft, without_own
from headrace.engine.identity.follow import find_living, read_stored
from headrace.engine.identity.values.weigh import Owner
from headrace.engine.model import Doc, iso, make_key
from headrace.engine.store.protocol import Query, Ref, Store


class StoreReads:
    """Reads for the nodes of one attempt; events of the draft come before those of the store.

    Where the store `lags`, so do the questions.
    """

    def __init__(self, store: Store, draft: Draft, now: datetime) -> None:
        self._store = store
        self._draft = draft
        self._now = now
        self.lags = store.lags

    async def find_profile(self, *, id: str | None = None, session: str | None = None) -> Doc | None:
        """Return a stored profile by its id or that of its session, or None."""
        draft = self._draft
        if session is not None:
            mine = draft.session is not None and draft.session["id"] == session
            found = draft.session if mine else await self._read_session(session)
            id = None if found is None else found["profile"]
        if draft.profile is not None and draft.profile["id"] == id:
            return draft.profile
        if id is None:
            return None
        found = await find_living(self._store, draft.tenant, id)
        return None if found is None else without_own(found)

    async def find_owners(self, keys: Sequence[str]) -> list[Owner | None]:
        """Return whom each claim names, by way of merges; those that the draft makes come first."""
        mine = {claim.key: claim.profile for claim in self._draft.claims}
        left = [key for key in keys if key not in mine]
        stored = await self._store.read([Ref("claim", key) for key in left]) if left else []
        claims = {key: found.doc for key, found in zip(left, stored, strict=True) if found is not None}
        return [
            Owner(mine[key], self._draft.profile)
            if key in mine
            else await self._owner(claims[key])
            if key in claims
            else None
            for key in keys
        ]

    async def _owner(self, claim: Doc) -> Owner:
        doc = await find_living(self._store, self._draft.tenant, claim["profile"])
        named = str(claim["profile"])
        return Owner(named if doc is None else doc["id"], doc, str(claim.get("at") or ""), named)

    async def find_own(self, id: str) -> Doc:
        """Return what stands under an id, of a merged profile as it was before; nothing when there is nothing."""
        found = await read_stored(self._store, self._draft.tenant, id)
        return {} if found is None else found.doc.get("frozen") or found.doc

    async def find_living(self, id: str) -> Doc | None:
        """Return the profile that an id means now, with what is the engine's own, or None."""
        return await find_living(self._store, self._draft.tenant, id)

    async def find_events(self, *, type: str | None, within: timedelta | None, limit: int) -> list[Doc]:
        """Return earlier events of the profile, newest first."""
        query = self._query(type, within, limit)
        if query is None:
            return []
        # Newest first is by arrival: the events of this request came after all that is stored.
        page = await self._store.find(query)
        return [*reversed(self._mine(query)), *page.items][:limit]

    async def catch_up(self) -> None:
        """Let events of the profile be found that were committed until now."""
        if self._draft.profile is not None:
            await self._store.catch_up(self._draft.tenant, self._draft.profile["ids"])

    async def count_events(self, *, type: str | None, within: timedelta | None) -> int:
        """Count earlier events of the profile."""
        query = self._query(type, within, 1)
        return 0 if query is None else len(self._mine(query)) + await self._store.count(query)

    def _query(self, type: str | None, within: timedelta | None, limit: int) -> Query | None:
        profile = self._draft.profile
        if profile is None:
            return None
        since = None if within is None else self._now - within
        tenant = self._draft.tenant
        # What was a merged profile's is still under its id, until it is re-owned.
        ids: list[str] = profile["ids"]
        owner = profile["id"] if len(ids) == 1 else tuple(ids)
        return Query("event", tenant=tenant, type=type, profile=owner, happened_since=since, limit=limit)

    def _mine(self, query: Query) -> list[Doc]:
        since = iso(query.happened_since) if query.happened_since else ""
        return [
            row.doc
            for row in self._draft.events
            if row.doc["profile"] in (query.owners or ())
            and query.type in (None, row.doc["type"])
            and row.doc["time"]["happened"] >= since
        ]

    async def _read_session(self, id: str) -> Doc | None:
        (found,) = await self._store.read([Ref("session", make_key("session", self._draft.tenant, id))])
        return None if found is None else found.doc
