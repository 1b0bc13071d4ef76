"""What nodes may look up, from memory: for examples and tests."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from headrace.engine.draft import Draft
from headrace.engine.identity.values.decide import TRUSTED
from headrace.engine.identity.values.kinds import claim_key
from headrace.engine.identity.values.weigh import Owner
from headrace.engine.model import Doc, iso


class MemoryReads:
    """Reads for a run without a store.

    `profiles` and `sessions` are by id; `past` are earlier events of the visitor's profile, in any order.
    """

    def __init__(
        self,
        draft: Draft,
        now: datetime,
        *,
        profiles: dict[str, Doc] | None = None,
        sessions: dict[str, Doc] | None = None,
        past: Sequence[Doc] = (),
    ) -> None:
        self._draft = draft
        self._now = now
        self._profiles = profiles or {}
        self._sessions = sessions or {}
        self._past = sorted(past, key=lambda event: str(event["time"]["happened"]), reverse=True)

    async def find_profile(self, *, id: str | None = None, session: str | None = None) -> Doc | None:
        """Return a profile by its id or that of its session, or None."""
        if session is not None:
            id = self._sessions.get(session, {}).get("profile")
        return None if id is None else self._profiles.get(id)

    async def find_living(self, id: str) -> Doc | None:
        """Return a profile by its id, or None."""
        return self._profiles.get(id)

    async def find_own(self, id: str) -> Doc:
        """Return a profile by its id; none is merged here."""
        return self._profiles.get(id, {})

    async def find_owners(self, keys: Sequence[str]) -> list[Owner | None]:
        """Return whom each claim names: the profile whose `identities` have the value."""
        owners = {
            claim_key(self._draft.tenant, kind, value, is_trusted=True): Owner(id, profile)
            for id, profile in self._profiles.items()
            for kind, values in profile.get(TRUSTED, {}).items()
            for value in values
        }
        return [owners.get(key) for key in keys]

    async def find_events(self, *, type: str | None, within: timedelta | None, limit: int) -> list[Doc]:
        """Return past events of the profile, newest first."""
        return self._found(type, within)[:limit]

    async def count_events(self, *, type: str | None, within: timedelta | None) -> int:
        """Count past events of the profile."""
        return len(self._found(type, within))

    def _found(self, event_type: str | None, within: timedelta | None) -> list[Doc]:
        if self._draft.profile is None:
            return []
        since = "" if within is None else iso(self._now - within)
        return [
            event
            for event in self._past
            if event_type in (None, event["type"]) and event["time"]["happened"] >= since
        ]
