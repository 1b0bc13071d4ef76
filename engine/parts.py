"""What every request needs: the settings, the store, the files, the locks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import tzinfo
from zoneinfo import ZoneInfo

from headrace.engine.calls.client import Client
from headrace.engine.files.watch import LiveWorkspace
from headrace.engine.keeper import Keeper
from headrace.engine.limiter import Limiter
from headrace.engine.locks import Locks
from headrace.engine.metrics import Metrics
from headrace.engine.plugin import Http
from headrace.engine.settings import Settings
from headrace.engine.store.protocol import Store
from headrace.engine.versions import Versions
from headrace.engine.wakes import Wakes


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of an engine, shared by all requests of a process.

    `live` gives the workspace as it is now, so that a change of its files is live with the next request. `secret`
    gives the value of a named secret, or None.
    """

    settings: Settings
    store: Store
    live: LiveWorkspace
    secret: Callable[[str], str | None]
    http: Http
    metrics: Metrics
    locks: Locks
    limiter: Limiter
    keeper: Keeper
    client: Client
    wakes: Wakes = field(default_factory=Wakes)
    versions: Versions = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "versions", Versions(self.store, self.live))

    @property
    def zone(self) -> tzinfo:
        """The time zone of wall clocks for which no other is named; zoneinfo keeps it."""
        return ZoneInfo(self.settings.time_zone)
