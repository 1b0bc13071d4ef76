"""What a step needs to know of the event on its way."""

from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Any, Protocol

from headrace.engine.calls.http import Http
from headrace.engine.model import Doc


class Reads(Protocol):
    """What a step may look up; answers hold what this request did so far."""

    async def find_profile(self, *, id: str | None = None, session: str | None = None) -> Doc | None:
        """Return a stored profile, or None."""
        ...

    async def find_living(self, id: str) -> Doc | None:
        """Return the profile that an id means now, or None."""
        ...

    async def find_owners(self, keys: Sequence[str]) -> list[Any]:
        """Return whom each claim of an identifying value names, or None."""
        ...

    async def find_own(self, id: str) -> Doc:
        """Return what stands under an id, of a merged profile as it was before."""
        ...

    async def find_events(self, *, type: str | None, within: timedelta | None, limit: int) -> list[Doc]:
        """Return earlier events of the event's profile, newest first."""
        ...

    async def count_events(self, *, type: str | None, within: timedelta | None) -> int:
        """Count earlier events of the event's profile."""
        ...


class Subject(Protocol):
    """What a step needs to know of whom the event is about (`headrace.engine.identity.subject` is the real one)."""

    async def ask(self, kind: str, value: Any) -> tuple[Any, Any] | None:
        """Return a value as it is compared, and whose it is; None for one that is nobody's."""
        ...

    async def find(self, kind: str, value: Any) -> Doc | None:
        """Return the profile that has a value, for a source that is trusted."""
        ...

    def decide(self, asked: Any, owner: Any) -> Any:
        """Return what that means for the event's profile."""
        ...

    async def may_merge(self, other: str) -> tuple[str, str]:
        """Return whether the event's profile may be merged with another one, and the id that this one has now."""
        ...


class Passage(Protocol):
    """What a step needs to know of the event on its way (`headrace.engine.passage` is the real one)."""

    scope: Any
    now: datetime
    times: dict[str, tuple[float, float]]

    @property
    def reads(self) -> Reads:
        """What the step may look up."""
        ...

    @property
    def http(self) -> Http:
        """The HTTP client."""
        ...

    @property
    def zone(self) -> tzinfo:
        """The time zone where none is named."""
        ...

    @property
    def subject(self) -> Subject:
        """Who the event is about."""
        ...

    def secret(self, name: str) -> str:
        """Return a secret's value; raises NodeError when it is not set."""
        ...
