"""What the HTTP side needs of an engine."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from headrace.engine.files.declared import Declared
from headrace.engine.files.problem import Problem
from headrace.engine.files.source import Source
from headrace.engine.files.watched import Watched
from headrace.engine.identity.merge import Refused
from headrace.engine.identity.unmerge import Apart
from headrace.engine.metrics import Metrics
from headrace.engine.model import Answer, Doc, TrackRequest
from headrace.engine.parts import Parts
from headrace.engine.settings import Settings
from headrace.engine.store.protocol import AmendKind, Ask, State


class WorkspaceNeeds(Protocol):
    """The workspace that is live."""

    @property
    def merge_rules(self) -> Mapping[str, str]:
        """Strategies by paths, for profiles that are merged."""
        ...

    @property
    def sources(self) -> Mapping[str, Source]:
        """The sources by name."""
        ...

    @property
    def problems(self) -> Sequence[Problem]:
        """All that lint says of its files, warnings too."""
        ...

    @property
    def declared(self) -> Declared:
        """What its files declare."""
        ...

    @property
    def watched(self) -> Watched:
        """Its computed segments and its goals."""
        ...


class StoreNeeds(State, Ask, Protocol):
    """The store as a reader sees it, and who cancels a run that waits."""

    async def ready(self) -> str:
        """Return "" when the store can take writes, else a short code."""
        ...

    async def amend(self, kind: AmendKind, key: str, change: Callable[[Doc], Doc | None]) -> Doc | None:
        """Change one effect, timer or failed event as it is now and return it."""
        ...

    def describe(self) -> Doc:
        """Return facts about the store."""
        ...


class EngineNeeds(Protocol):
    """The engine as the doors, the read API and the probes see it."""

    @property
    def settings(self) -> Settings:
        """All settings of the process."""
        ...

    @property
    def store(self) -> StoreNeeds:
        """The store."""
        ...

    @property
    def parts(self) -> Parts:
        """What a request needs to go through the steps."""
        ...

    @property
    def workspace(self) -> WorkspaceNeeds:
        """The workspace that is live now."""
        ...

    @property
    def problems(self) -> Sequence[Problem]:
        """Why the files as they are now are not all in use; empty when they are."""
        ...

    @property
    def metrics(self) -> Metrics:
        """The numbers that the engine counts."""
        ...

    async def track(self, request: TrackRequest) -> Answer:
        """Take a request; returns after the durable write. Raises InputError, StoreError, BusyError."""
        ...

    async def erase(self, tenant: str, profile: str) -> dict[str, int]:
        """Erase a person by any id that they ever had; returns how many documents of each kind went."""
        ...

    async def story(self, tenant: str, key: str) -> Doc | None:
        """Return what happened to an event, or None."""
        ...

    async def merge(self, tenant: str, one: str, other: str, by: str) -> str:
        """Make one profile of two and return its id. Raises StoreError, BusyError."""
        ...

    async def unmerge(self, tenant: str, profile: str) -> Apart | Refused:
        """Take a profile out of the one that it was merged into. Raises StoreError, BusyError."""
        ...

    async def start(self) -> None:
        """Begin the work beside the requests, in the running loop."""
        ...

    async def stop(self) -> None:
        """Finish what is begun, flush and close the store."""
        ...
