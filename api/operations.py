"""Probes and metrics: /healthz, /readyz and /metrics."""

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.requests import Request

from headrace.api.doors.gate import Gate
from headrace.api.needs import EngineNeeds
from headrace.api.problems import Reply, json_reply
from headrace.api.tokens import Tokens
from headrace.engine.metrics import make_registry
from headrace.engine.model import Doc


class Health(msgspec.Struct):
    """The process answers."""

    status: str = "ok"


class Ready(msgspec.Struct, omit_defaults=True):
    """Whether requests can be taken; codes for everybody, details for those with a token."""

    status: str
    store: str
    codes: list[str]
    problems: list[Doc] = []
    facts: Doc = {}


class Operations:
    """Answers those who run the server."""

    def __init__(self, engine: EngineNeeds, gate: Gate, tokens: Tokens) -> None:
        self._engine = engine
        self._gate = gate
        self._tokens = tokens
        self._registry = self._make_registry()

    def _make_registry(self) -> CollectorRegistry:
        metrics, engine, gate = self._engine.metrics, self._engine, self._gate
        metrics.gauge("requests_in_flight", "Requests at work.", lambda: gate.requests)
        metrics.gauge("bytes_in_flight", "Bytes of bodies held.", lambda: gate.bytes)
        metrics.gauge("workspace_problems", "Problems of the files.", lambda: len(engine.problems))
        return make_registry(metrics)

    async def health(self, request: Request) -> Reply:  # noqa: ARG002
        """Say that the process answers, whatever the store does."""
        return json_reply(Health())

    async def ready(self, request: Request) -> Reply:
        """Say whether requests can be taken: 200, or 503 with a code."""
        store = await self._engine.store.ready()
        problems = self._engine.problems
        status = "stopping" if self._gate.closed else "not_ready" if store else "ready"
        answer = Ready(status, store or "ok", sorted({problem.code for problem in problems}))
        if self._tokens.level(_authorization(request)):
            warnings = [problem for problem in self._engine.workspace.problems if not problem.is_error]
            answer.problems = [
                {**problem._asdict(), "severity": problem.severity} for problem in (*problems, *warnings)
            ]
            answer.facts = self._engine.store.describe()
        return json_reply(answer, 200 if status == "ready" else 503)

    async def metrics(self, request: Request) -> Reply:  # noqa: ARG002
        """Return the metrics for Prometheus."""
        body = generate_latest(self._registry)
        return Reply(200, body, ((b"content-type", CONTENT_TYPE_PLAIN_0_0_4.encode()),))


def _authorization(request: Request) -> bytes | None:
    value = request.headers.get("authorization")
    return None if value is None else value.encode("latin-1")
