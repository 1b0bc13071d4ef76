"""The engine as one thing: start, stop, and the way in."""

import asyncio
from collections.abc import Callable
from functools import partial

from headrace.engine.calls.address import Rules
from headrace.engine.calls.client import Client
from headrace.engine.calls.http import Http
from headrace.engine.calls.inline import Calls
from headrace.engine.calls.mail import Mailer
from headrace.engine.files.problem import Problem
from headrace.engine.files.watch import LiveWorkspace
from headrace.engine.files.workspace import Workspace
from headrace.engine.identity import person
from headrace.engine.identity.merge import MERGE, Refused, merge
from headrace.engine.identity.unmerge import Apart, unmerge
from headrace.engine.keeper import Keeper
from headrace.engine.limiter import Limiter
from headrace.engine.locks import Locks
from headrace.engine.logs import logger
from headrace.engine.metrics import Metrics
from headrace.engine.model import Answer, Doc, TrackRequest, utc_now
from headrace.engine.outbox.backlog import Backlog
from headrace.engine.outbox.dead import tell
from headrace.engine.outbox.sending import Sending
from headrace.engine.outbox.worker import SENDING_SHARE, Outbox
from headrace.engine.parts import Parts
from headrace.engine.schedule import KIND as SCHEDULE
from headrace.engine.schedule import Scheduler, fire_tick
from headrace.engine.segments.sweep import KIND as SWEEP
from headrace.engine.segments.sweep import Sweeper, fire_merged, fire_sweep
from headrace.engine.settings import Settings
from headrace.engine.store.protocol import Store
from headrace.engine.story import story
from headrace.engine.timers.kinds import KINDS
from headrace.engine.timers.worker import TimerWorker
from headrace.engine.track import track

PRUNE_EVERY_SECONDS = 3600.0
REACH_EVERY_SECONDS = 0.5


def new_client(settings: Settings, secret: Callable[[str], str | None]) -> Client:
    """Return what makes the outgoing calls of a process; it opens nothing before the first."""
    return Client(
        Rules(settings.allow_addresses),
        secret,
        answer_bytes=settings.call_answer_limit_bytes,
        per_host=settings.calls_per_host,
    )


def new_outbox(parts: Parts) -> Outbox:
    """Return what sends the effects of a store."""
    settings = parts.settings
    secret = settings.smtp_password
    password = None if secret is None else secret.get_secret_value()
    mailer = Mailer(settings.smtp, password, settings.mail_from)
    send = Sending(parts.client, mailer, settings.outbox_lease_seconds * SENDING_SHARE)
    return Outbox(settings, parts.store, parts.metrics, parts.wakes.effects, send, partial(tell, parts))


class Engine:
    """Takes requests of any door through the steps of `track`; see `Parts` for what it is made of."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        live: LiveWorkspace,
        secret: Callable[[str], str | None],
        *,
        http: Http | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.settings = settings
        self.store = store
        self.metrics = metrics or Metrics()
        locks = Locks(settings.waiters_per_profile)
        client = new_client(settings, secret)
        http = http or Calls(client)
        self.parts = Parts(
            settings, store, live, secret, http, self.metrics, locks, Limiter(), Keeper(store), client
        )
        self._outbox = new_outbox(self.parts) if settings.outbox else None
        kinds = {**KINDS, MERGE: fire_merged, SCHEDULE: fire_tick, SWEEP: fire_sweep}
        self._timers = TimerWorker(self.parts, kinds) if settings.timers else None
        self._forever: list[asyncio.Task[None]] = []

    @property
    def workspace(self) -> Workspace:
        """The workspace as it is now."""
        return self.parts.live.current

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the workspace's files as they are now."""
        return self.parts.live.refused

    async def track(self, request: TrackRequest) -> Answer:
        """Take a request; see `headrace.engine.track`."""
        return await track(self.parts, request)

    async def erase(self, tenant: str, profile: str) -> dict[str, int]:
        """Erase a person by any id that they ever had; returns how many documents of each kind went."""
        await self.parts.keeper.flush()
        return await person.erase(self.parts.store, tenant, profile)

    async def story(self, tenant: str, key: str) -> Doc | None:
        """Return all that is known of an event of a tenant, by its key, or None."""
        await self.parts.keeper.flush()
        return await story(self.store, tenant, key)

    async def merge(self, tenant: str, one: str, other: str, by: str) -> str:
        """Make one profile of two and return its id; see `headrace.engine.identity.merge`."""
        return await merge(self.parts, tenant, one, other, by)

    async def unmerge(self, tenant: str, profile: str) -> Apart | Refused:
        """Take a profile out of the one that it was merged into; see `headrace.engine.identity.unmerge`."""
        return await unmerge(self.store, self.parts.locks, tenant, profile)

    async def start(self) -> None:
        """Begin the work beside the requests: follow the files, and delete what is older than its time.

        The store is reached for too, and not waited for: it may come later, and doors say 503 until then.
        """
        self.parts.live.start()
        self._forever.append(asyncio.create_task(self._prune(), name="prune"))
        if self._timers is not None:
            self._forever.append(asyncio.create_task(self._timers.run(), name="timers"))
            pending = Backlog(self.store, self.metrics, "timer")
            self._forever.append(asyncio.create_task(pending.run(), name="pending timers"))
            self._forever.append(asyncio.create_task(Scheduler(self.parts).run(), name="schedules"))
            self._forever.append(asyncio.create_task(Sweeper(self.parts).run(), name="sweeps"))
        if self._outbox is not None:
            backlog = Backlog(self.store, self.metrics)
            self._outbox.start()
            self._forever.append(asyncio.create_task(backlog.run(), name="backlog"))

    async def _reach(self) -> None:
        """Wait until the store can be used, and say once what keeps it from that, and when it is there."""
        said = ""
        while code := await self.store.ready():
            if code != said:
                logger().warning("store not ready", code=code, **self._place())
            said = code
            await asyncio.sleep(REACH_EVERY_SECONDS)
        logger().info("store ready", **self._place())

    def _place(self) -> Doc:
        facts = self.store.describe()
        return {name: facts[name] for name in ("kind", "place", "path", "version") if name in facts}

    async def _prune(self) -> None:
        settings = self.settings
        days = {
            "event": settings.keep_events_days,
            "session": settings.keep_sessions_days,
            "failed": settings.keep_failed_days,
            "effect": settings.keep_effects_days,
            "timer": settings.keep_timers_days,
            "trace": settings.keep_traces_days,
        }
        days = {kind: number for kind, number in days.items() if number}
        await self._reach()
        while True:
            try:
                await self.store.prune(days, utc_now())
            # The edge of the task: whatever went wrong, the next hour tries again.
            except Exception:  # noqa: BLE001
                logger().warning("prune failed", exc_info=True)
            await asyncio.sleep(PRUNE_EVERY_SECONDS)

    async def stop(self) -> None:
        """Finish what runs beside the requests, then flush and close the store."""
        await self.parts.live.stop()
        for task in self._forever:
            task.cancel()
        if self._timers is not None:
            await self._timers.stop()
        if self._outbox is not None:
            await self._outbox.stop()
        await self.parts.client.close()
        await self.parts.keeper.close()
        await self.store.close()
