"""Runs the tests of a workflow and measures what they cover."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from time import perf_counter
from typing import Any

from headrace.engine.errors import HeadraceError
from headrace.engine.files.source import Source
from headrace.engine.files.workflow_test import Expect, Mock, TestCase, TestEvent
from headrace.engine.files.workspace import Workspace
from headrace.engine.held import Left
from headrace.engine.language.registry import BadLiteral
from headrace.engine.language.times import parse_duration
from headrace.engine.model import EventInput
from headrace.engine.plugin import ERROR_PORT, Out, Step
from headrace.engine.run import Run
from headrace.engine.testing.clock import advance
from headrace.engine.testing.dry import SESSION, Dry, Processed, is_pending, read_clock
from headrace.engine.testing.expectation import Difference, differences
from headrace.engine.view import plain
from headrace.engine.workflow import Node, Workflow, with_runs

START = "2026-01-15T12:00:00.000Z"
"""The clock of a test that names none; the same as that of plugins' examples."""

Way = tuple[str, str]
"""A node and the port that it left by."""


@dataclass
class TestResult:
    """What one test showed; it passed when there are no differences."""

    __test__ = False

    name: str
    differences: list[Difference] = field(default_factory=list)
    ways: list[list[Way]] = field(default_factory=list)
    """The ways that were taken, by event."""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether everything came out as expected."""
        return not self.differences


@dataclass
class Coverage:
    """What the tests of one workflow reached, out of what can be reached."""

    nodes: set[str]
    ports: set[Way]
    missed: list[Way]
    total_nodes: int

    @property
    def percent(self) -> float:
        """The share of ports that were taken, in percent."""
        total = len(self.ports) + len(self.missed)
        return 100.0 if total == 0 else 100.0 * len(self.ports) / total


def measure(workflow: Workflow, results: list[TestResult]) -> Coverage:
    """Return the coverage of a workflow: all ports of nodes that are not disabled, `error` where it is wired."""
    taken = {way for result in results for ways in result.ways for way in ways}
    nodes = [node for node in workflow.nodes if not node.disabled]
    reachable = [
        (node.name, port)
        for node in nodes
        for port in sorted(node.ports)
        if port != ERROR_PORT or ERROR_PORT in node.then
    ]
    missed = [way for way in reachable if way not in taken]
    return Coverage({name for name, _ in taken}, set(reachable) - set(missed), missed, len(nodes))


async def run_tests(workspace: Workspace, workflow: Workflow, tests: Iterable[TestCase]) -> list[TestResult]:
    """Run tests of a workflow, one after another. No other workflow of the workspace runs."""
    return [await run_test(workspace, workflow, test) for test in tests]


async def run_test(workspace: Workspace, workflow: Workflow, test: TestCase) -> TestResult:
    """Run one test of a workflow."""
    started = perf_counter()
    result = TestResult(test.name)
    try:
        await _run(workspace, workflow, test, result)
    except (HeadraceError, BadLiteral, ValueError, OverflowError) as error:
        result.differences.append(Difference("", text=str(error)))
    result.seconds = perf_counter() - started
    return result


async def _run(workspace: Workspace, workflow: Workflow, test: TestCase, result: TestResult) -> None:
    source = choose_source(workspace, workflow, test)
    mocked = with_runs(workflow, lambda node: mocked_run(node, test.mocks.get(node.name)))
    # Values of secrets are made up, so that a test does not depend on the environment.
    secrets = {**test.secrets}.get
    only = dataclasses.replace(workspace, workflows=(mocked,), _by_type={})
    dry = Dry(only, lambda name: secrets(name, f"secret {name}"), _time(test.at or START))
    set_up(dry, source, test)
    processed: list[Processed] = []
    last: Processed | None = None
    for event in test.events:
        if event.advance is not None:
            made = await advance(dry, source, mocked, parse_duration(event.advance))
            # What time alone makes, as a segment that is left, counts as the last event only where it is taken.
            last = next((each for each in reversed(made) if concerns(each)), last)
        else:
            made = [await dry.send(source, event_input(event))]
            last = made[-1]
        processed += made
        result.ways += [[(name, port) for name, port, _ in left_nodes(each.runs)] for each in made]
    result.differences += compare(test.expect, dry, source, processed, last)


def choose_source(workspace: Workspace, workflow: Workflow, test: TestCase) -> Source:
    """Return the source that a test names, else the first that the workflow takes events of."""
    takes = workflow.takes.source
    schedule = workflow.file.on.schedule
    name = (
        test.source
        or (schedule.source if schedule else None)
        or next((each for each in workspace.sources if takes is None or each in takes), "")
    )
    if name not in workspace.sources:
        raise ValueError(f"source: there is no source '{name}' in sources.json")
    return workspace.sources[name]


def mocked_run(node: Node, mock: Mock | None) -> Callable[[Step], Any]:
    """Return what a node runs in a test: what it always does, or what its mock says."""
    if mock is None:
        return node.run
    out = Out(mock.port, mock.result)

    async def answer_async(_: Step) -> Out:
        return out

    return answer_async if node.is_async else lambda _: out


def set_up(dry: Dry, source: Source, test: TestCase) -> None:
    """Put into the store what was there before."""
    tenant = source.tenant
    for profile in test.profiles:
        dry.keep_profile(tenant, profile)
    is_new = "profile" not in test.model_fields_set
    dry.begin(tenant, {} if is_new else test.profile, is_new=is_new)
    for session in test.sessions:
        dry.keep_session(source, session)
    if "session" in test.model_fields_set:
        dry.session = None if test.session is None else str(test.session.get("id") or SESSION)
    if test.session is not None:
        dry.keep_session(source, {"profile": dry.profile, **test.session})
    for place, event in enumerate(test.past, 1):
        dry.keep_past(source, place, event)


def event_input(event: TestEvent) -> EventInput:
    """Return an event of a test as a client would send it."""
    return EventInput(
        event.type or "", event.properties, event.context, event.id, event.time, version=event.version
    )


def concerns(made: Processed) -> bool:
    """Say whether the workflow took an event, or would have but for one of its conditions."""
    return any(passage.runs or passage.skipped for passage in made.passages)


def compare(
    expect: Expect, dry: Dry, source: Source, processed: list[Processed], last: Processed | None
) -> Iterator[Difference]:
    """Yield every expectation that was not met; what is expected of runs means the last event."""
    for each in processed:
        for refused in each.errors:
            yield Difference("", text=f"{refused.event} was refused: {refused.message}")
    end = processed[-1] if processed else Processed([], [])
    last = end if last is None else last
    if last.errors:
        return
    yield from _compare_runs(expect, last)
    yield from _compare_errors(expect, processed)
    yield from _compare_documents(expect, dry, source, last, end)
    if expect.effects is not None:
        sent = [effect.model_dump(exclude_unset=True) for effect in expect.effects]
        yield from differences("effects", sent, [_effect(doc) for doc in dry.store.effects])
    passages = [passage for each in processed for passage in each.passages]
    if expect.emitted is not None:
        made = [made.model_dump(exclude_unset=True) for made in expect.emitted]
        emitted = [event for passage in passages for event in passage.emitted]
        found = [{"type": event.type, "properties": event.properties} for event in emitted]
        yield from differences("emitted", made, found)
    if expect.started is not None:
        started = [start.workflow for passage in passages for start in passage.starts]
        yield from differences("started", expect.started, started)
    if expect.waits is not None:
        waits = [name for timer in dry.store.timers if is_pending(timer) for name in timer["held"]]
        yield from differences("waits", expect.waits, waits)
    if expect.logs is not None:
        lines = [line["message"] for passage in passages for line in passage.log]
        yield from differences("logs", expect.logs, lines)


def _effect(doc: dict[str, Any]) -> dict[str, Any]:
    return {"node": doc["node"], "request": doc["request"]}


def _compare_runs(expect: Expect, last: Processed) -> Iterator[Difference]:
    skipped = [why for passage in last.passages for _, why in passage.skipped]
    runs = last.runs
    why = "" if runs else (skipped[0] if skipped else "event")
    if expect.skipped is not None:
        if why != expect.skipped:
            yield Difference("skipped", expect.skipped, why or ABSENT_SKIP)
    elif not runs and expect.path != []:
        types = [f", {passage.event['type']}" for passage in last.passages[:1]]
        yield Difference("", text=f"the workflow did not take the last event{''.join(types)}: {WHY[why]}")
    if expect.path is not None and runs:
        path = [name for run in runs for name in path_of(run)]
        if path != expect.path:
            yield Difference("path", expect.path, path)
    left = left_nodes(runs)
    yield from differences("ports", expect.ports, {name: port for name, port, _ in left})
    yield from differences("nodes", expect.nodes, {name: plain(result) for name, _, result in left})


def path_of(run: Run) -> list[str]:
    """Return the nodes of a run in order: those that it went on from after a wait, then those that ran."""
    before = [] if run.before is None else run.before.leaving
    return [name for name, _, _ in before] + [done.node.name for done in run.done]


def left_nodes(runs: Iterable[Run]) -> list[Left]:
    """Return the nodes that were left; one that waits is left when its time, or its event, has come."""
    found: list[Left] = []
    for run in runs:
        found += [] if run.before is None else run.before.leaving
        found += [
            (done.node.name, done.out.port, done.out.result)
            for done in run.done
            if done.node.name not in run.held
        ]
    return found


ABSENT_SKIP = "not skipped: it ran"

WHY = {
    "event": "`on.event` does not name its type",
    "source": "`on.source` does not name its source",
    "when": "`on.when` is false",
    "consent": "a consent is missing",
    "disabled": "it is not enabled",
    "stopped": "an earlier one stopped it",
}
"""Why a workflow did not run, for who wrote the test."""


def _compare_errors(expect: Expect, processed: list[Processed]) -> Iterator[Difference]:
    failed = [done for each in processed for run in each.runs for done in run.done if done.error]
    for node, part in expect.errors.items():
        errors = [done.error for done in failed if done.node.name == node]
        if not any(part in error for error in errors):
            yield Difference(f"errors.{node}", part, errors[-1] if errors else "no error")
    for done in failed:
        name = done.node.name
        known = name in expect.errors or expect.ports.get(name) == ERROR_PORT or ERROR_PORT in done.node.then
        if not known:
            yield Difference("", text=f"the node {name} failed: {done.error}")


def _compare_documents(
    expect: Expect, dry: Dry, source: Source, last: Processed, end: Processed
) -> Iterator[Difference]:
    draft = end.passages[-1].draft if end.passages else None
    profile = draft.profile if draft is not None else dry.stored("profile", source.tenant, dry.profile)
    # What time alone makes comes without a session.
    draft = last.passages[-1].draft if last.passages else None
    session = draft.session if draft is not None else dry.stored("session", source.tenant, dry.session)
    response = {name: value for passage in last.passages for name, value in passage.response.items()}
    for name, actual in (("profile", profile), ("session", session), ("response", response)):
        if name in expect.model_fields_set:
            yield from differences(name, getattr(expect, name), actual)


def _time(text: str) -> datetime:
    try:
        return read_clock(text)
    except ValueError:
        raise ValueError(f"at: '{text}' is not a time such as {START}") from None
