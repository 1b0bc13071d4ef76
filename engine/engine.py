"""The engine as one thing: a workspace, a store, and the way of a request through both."""

import asyncio
from collections.abc import Callable
from typing import Any

from headrace.engine.errors import HeadraceError, NodeError
from headrace.engine.limiter import Limiter
from headrace.engine.locks import Locks
from headrace.engine.logs import logger
from headrace.engine.metrics import Metrics
from headrace.engine.model import Answer, Doc, TrackRequest, utc_now
from headrace.engine.plugin import Http, HttpAnswer
from headrace.engine.problem import Problem
from headrace.engine.request import Job
from headrace.engine.settings import Settings
from headrace.engine.store.protocol import Row, Store
from headrace.engine.story import story
from headrace.engine.track import track
from headrace.engine.trace import full_trace, trace_key
from headrace.engine.watch import LiveWorkspace
from headrace.engine.workspace import Workspace


PRUNE_EVERY_SECONDS = 3600.0


class NoHttp:
    """Stands where the HTTP client of nodes will be."""

    async def request(self, *_: Any, **__: Any) -> HttpAnswer:
        """Refuse: there is no client yet."""
        raise NodeError("this version has no HTTP client for nodes")


class Engine:
    """Takes requests of any door through the steps of `track`.

    `live` gives the workspace as it is now, so that a change of its files is live with the next request. `secret` gives the value of a named secret, or None.
    """

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
        self.secret = secret
        self.http: Http = http or NoHttp()
        self.metrics = metrics or Metrics()
        self.locks = Locks(settings.waiters_per_profile)
        self.limiter = Limiter()
        self._live = live
        self._background: set[asyncio.Task[None]] = set()
        self._forever: list[asyncio.Task[None]] = []

    @property
    def workspace(self) -> Workspace:
        """The workspace as it is now."""
        return self._live.current

    async def track(self, request: TrackRequest) -> Answer:
        """Take a request; see `headrace.engine.track`."""
        return await track(self, request)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the workspace's files as they are now."""
        return self._live.refused

    async def story(self, tenant: str, key: str) -> Doc | None:
        """Return all that is known of an event of a tenant, by its key, or None."""
        return await story(self.store, tenant, key)

    def note(self, job: Job) -> None:
        """Count and log what a committed request did, and keep its traces."""
        metrics = self.metrics
        traces: list[Row] = []
        for attempt in job.committed:
            metrics.event("accepted", len(attempt.passages))
            if attempt.duplicates:
                metrics.event("duplicate", len(attempt.duplicates))
            if attempt.errors:
                metrics.event("refused", len(attempt.errors))
            for passage in attempt.passages:
                for run in passage.runs:
                    metrics.run(run.workflow.name, "error" if run.error else "ok")
                    if run.error:
                        self._warn(run.workflow.name, run.error, passage.event["id"])
                    if job.admission.tracing or run.failed:
                        key = trace_key(passage.key, run.workflow.name)
                        doc = full_trace(run, passage.event["id"])
                        about = {
                            "id": key,
                            "tenant": job.tenant,
                            "key": passage.key,
                            "received": job.received,
                        }
                        traces.append(Row(key, doc | about))
        if traces:
            self._start(self._keep_traces(traces))

    def _warn(self, workflow: str, error: str, event: str) -> None:
        node, _, message = error.partition(": ")
        self.metrics.node_failure(workflow, node)
        logger().warning("node failed", workflow=workflow, node=node, error=message, event=event)

    async def _keep_traces(self, traces: list[Row]) -> None:
        await self.store.keep_traces(traces)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def start(self) -> None:
        """Begin the work beside the requests: follow the files, and delete what is older than its time."""
        self._live.start()
        self._forever.append(asyncio.create_task(self._prune(), name="prune"))

    async def _prune(self) -> None:
        settings = self.settings
        days = {
            "event": settings.keep_events_days,
            "session": settings.keep_sessions_days,
            "failed": settings.keep_failed_days,
            "trace": settings.keep_traces_days,
        }
        days = {kind: number for kind, number in days.items() if number}
        while True:
            try:
                await self.store.prune(days, utc_now())
            except HeadraceError as error:
                logger().warning("prune failed", error=str(error))
            await asyncio.sleep(PRUNE_EVERY_SECONDS)

    async def stop(self) -> None:
        """Finish what runs beside the requests, then flush and close the store."""
        await self._live.stop()
        for task in self._forever:
            task.cancel()
        if self._background:
            await asyncio.wait(self._background, timeout=5)
        await self.store.close()
