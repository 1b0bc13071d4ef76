"""Counts and logs what a request did, and keeps its traces."""

from collections import Counter

from headrace.engine.logs import logger
from headrace.engine.model import Doc
from headrace.engine.parts import Parts
from headrace.engine.passage import Passage
from headrace.engine.request import Job
from headrace.engine.run import Run
from headrace.engine.store.protocol import Row
from headrace.engine.trace import full_trace, trace_key


def note(parts: Parts, job: Job) -> None:
    """Note a request that is durable. Its traces are kept best effort, beside the answer."""
    metrics = parts.metrics
    traces: list[Row] = []
    for attempt in job.committed:
        metrics.event("accepted", attempt.accepted)
        for workflow, times in Counter(attempt.went_well).items():
            metrics.run(workflow, "ok", times)
        if attempt.duplicates:
            metrics.event("duplicate", len(attempt.duplicates))
        if attempt.errors:
            metrics.event("refused", len(attempt.errors))
        for passage in attempt.passages:
            for line in passage.log:
                _log(line, passage)
            for skipped in passage.skipped:
                metrics.run(skipped.workflow.name, skipped.why)
            for run in passage.runs:
                metrics.run(run.workflow.name, "error" if run.error else "ok")
                if run.failed:
                    _warn(parts, run, passage)
                # A story begins with its event: without it nobody could find the trace.
                if passage.save and (run.failed or job.admission.tracing):
                    traces.append(_trace(job, run, passage))
    if traces:
        parts.keeper.add(traces)


def _log(line: Doc, passage: Passage) -> None:
    """Write what a node logged; written only now, so that an attempt that was made again is not heard twice."""
    write = getattr(logger(), line["level"])
    write(line["message"], workflow=line["workflow"], node=line["node"], event_id=passage.event["id"])


def _warn(parts: Parts, run: Run, passage: Passage) -> None:
    for done in run.done:
        if done.error:
            name = done.node.name
            parts.metrics.node_failure(run.workflow.name, name)
            event_id = passage.event["id"]
            logger().warning(
                "node failed", workflow=run.workflow.name, node=name, error=done.error, event_id=event_id
            )


def _trace(job: Job, run: Run, passage: Passage) -> Row:
    key = trace_key(passage.key, run.workflow.name, run.before.number if run.before is not None else 0)
    about = {
        "id": key,
        "tenant": job.tenant,
        "key": passage.key,
        "profile": passage.event["profile"],
        "received": job.received,
    }
    return Row(key, full_trace(run, passage.event["id"]) | about)
