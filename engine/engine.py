"""The engine as one thing: a workspace, a store, and the way of a request through both."""

import asyncio
from collections.abc import Callable
from typing import Any

from headrace.engine.errors import NodeError
from headrace.engine.limiter import Limiter
from headrace.engine.locks import Locks
from headrace.engine.logs import logger
from headrace.engine.metrics import Metrics
from headrace.engine.model import Answer, TrackRequest
from headrace.engine.plugin import Http, HttpAnswer
from headrace.engine.request import Job
from headrace.engine.settings import Settings
from headrace.engine.store.protocol import Row, Store
from headrace.engine.track import track
from headrace.engine.trace import full_trace, trace_key
from headrace.engine.workspace import Workspace


class NoHttp:
    """Stands where the HTTP client of nodes will be."""

    async def request(self, method: str, url: str, **arguments: Any) -> HttpAnswer:
        """Refuse: there is no client yet."""
        raise NodeError("this version has no HTTP client for nodes")


class Engine:
    """Takes requests of any door through the steps of `track`.

    `current` gives the workspace as it is now, so that a change of its files is live with the next request.
    `secret` gives the value of a named secret, or None.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        current: Callable[[], Workspace],
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
        self._current = current
        self._background: set[asyncio.Task[None]] = set()

    @property
    def workspace(self) -> Workspace:
        """The workspace as it is now."""
        return self._current()

    async def track(self, request: TrackRequest) -> Answer:
        """Take a request; see `headrace.engine.track`."""
        return await track(self, request)

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

    async def close(self) -> None:
        """Finish what runs beside the requests, then flush and close the store."""
        if self._background:
            await asyncio.wait(self._background, timeout=5)
        await self.store.close()
