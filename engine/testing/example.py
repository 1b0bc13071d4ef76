"""Runs a plugin's example with the real runner, without store and network."""

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from headrace.engine.calls.inline import noted
from headrace.engine.catalog import find_plugins
from headrace.engine.draft import Draft
from headrace.engine.errors import CallError, NodeError
from headrace.engine.identity.values.weigh import Ground
from headrace.engine.model import Doc, from_iso, make_key, new_profile, new_session
from headrace.engine.passage import Passage, Surroundings
from headrace.engine.plugin import Example, Http, HttpAnswer, Out, Plugin
from headrace.engine.restart import Needs
from headrace.engine.run import Run, run_workflow
from headrace.engine.store.protocol import Stored
from headrace.engine.testing.memory_reads import MemoryReads
from headrace.engine.timers.meeting import accepts, fits, met_event
from headrace.engine.trigger import On
from headrace.engine.view import plain
from headrace.engine.workflow import NodeFile, Workflow, WorkflowFile, compile_workflow

NODE = "example"
"""The name of the one node of an example's workflow."""

BEFORE = "2026-01-01T00:00:00.000Z"
"""When profiles and sessions of examples were made, unless they say otherwise."""


class ExampleRun(NamedTuple):
    """What an example gave: way out, result, the values at the paths of its `changes` (`...`: nothing), error.

    `passage` has whatever else a test may want to see: log lines, effects, emitted events, the answer's response.
    """

    port: str
    result: Any
    changes: Mapping[str, Any]
    error: str
    passage: Passage

    def differences(self, example: Example) -> list[str]:
        """Return a sentence for each expectation that was not met."""
        found = []
        if self.port != example.port:
            found.append(f"left by '{self.port}', not '{example.port}' {self.error}".rstrip())
        if example.result is not ... and self.result != example.result:
            found.append(f"the result is {self.result!r}, not {example.result!r}")
        for path, expected in example.changes.items():
            if self.changes[path] != expected:
                found.append(f"at {path} stands {self.changes[path]!r}, not {expected!r}")
        return found


async def run_example(plugin: str | type[Plugin[Any]], example: Example) -> ExampleRun:
    """Run one example of a plugin, given by its name or its class; raises ValidationError for a bad config."""
    kind = find_plugins()[plugin].plugin if isinstance(plugin, str) else plugin
    workflow = one_node(kind, example.config)
    fresh: dict[str, Stored | None] = {}
    while True:
        passage = _passage(example, fresh)
        try:
            run = await run_workflow(workflow, passage)
            break
        except Needs as needs:
            if needs.session is None or needs.session in fresh:
                raise
            # A session that nobody has yet: allow it, and start again.
            fresh[needs.session] = None
    (done,) = run.done
    if example.awaited is not None:
        _receive(example, run)
    docs = {root: getattr(passage.scope, root) for root in ("event", "profile", "session", "vars")}
    docs["response"] = passage.response
    changes = {path: plain(_read(docs, path)) for path in example.changes}
    return ExampleRun(done.out.port, plain(done.out.result), changes, done.error, passage)


def _receive(example: Example, run: Run) -> None:
    """Let the awaited event come: if it is the one that the node waits for, the node is left by that port."""
    (done,) = run.done
    wait = run.held.get(NODE)
    later = _passage(dataclasses.replace(example, event=example.awaited or {}), {})
    if wait is not None and fits(later.event, wait.types, wait.where) and accepts(done.node, later):
        done.out = Out(wait.port, met_event(later.event))


def one_node(kind: type[Plugin[Any]], config: Mapping[str, Any]) -> Workflow:
    """Return a workflow of one node."""
    made = kind(kind.config_type.model_validate(dict(config)))
    file = WorkflowFile(on=On(event=["*"]), nodes={NODE: NodeFile(plugin=NODE, config=dict(config))})
    return compile_workflow(NODE, b"", file, {NODE: made})


class MockHttp(Http):
    """Answers calls from a list, in order: `{"status", "headers", "body"}`, or `{"error"}` for no answer."""

    def __init__(self, mocks: Iterator[Mapping[str, Any]]) -> None:
        self._mocks = mocks

    async def send(self, call: Mapping[str, Any]) -> HttpAnswer:
        """Return the next answer; raises CallError for a mock without one, NodeError when there is no mock."""
        note = noted(call)
        mock = next(self._mocks, None)
        if mock is None:
            raise NodeError(f"{note['method']} {note['url']}: the example has no mock for this call")
        if "error" in mock:
            raise CallError(f"{note['method']} {note['url']}: {mock['error']}")
        return HttpAnswer(mock.get("status", 200), mock.get("headers", {}), copy.deepcopy(mock.get("body")))


def _passage(example: Example, fresh: Mapping[str, Stored | None]) -> Passage:
    now = from_iso(example.at)
    draft = Draft("main", example.at)
    profiles = {doc["id"]: _profile(doc) for doc in example.profiles}
    sessions = {doc["id"]: _session(doc) for doc in example.sessions}
    draft.profiles.update({id_: Stored(doc, (1, 0)) for id_, doc in profiles.items()})
    draft.sessions.update({id_: Stored(doc, (1, 0)) for id_, doc in sessions.items()} | dict(fresh))
    if example.profile is not None:
        draft.use_profile(_profile(example.profile), (1, 0))
    if example.session is not None:
        draft.use_session(_session(example.session), (1, 0))
    draft.link_session()
    past = [filled(_event(example.at, draft), dict(event)) for event in example.past]
    reads = MemoryReads(draft, now, profiles=profiles, sessions=sessions, past=past)
    around = Surroundings(reads, MockHttp(iter(example.mocks)), example.secrets.get)
    # Nothing is merged, and no session moves: there is one profile here, and no store.
    around.ground = Ground({}, example.trusted, identifies=True)
    event = filled(_event(example.at, draft), example.event)
    source = {"id": "example", "tenant": "main", "about": ""}
    return Passage(draft, event, make_key("event", "main", "example", event["id"]), source, now, around)


def _event(at: str, draft: Draft) -> Doc:
    return {
        "id": "e-1",
        "type": "example",
        "properties": {},
        "context": {},
        "source": "example",
        "tenant": "main",
        "session": draft.session["id"] if draft.session else None,
        "profile": draft.profile["id"] if draft.profile else None,
        "time": {"happened": at, "received": at},
    }


def _profile(given: Mapping[str, Any]) -> Doc:
    return filled(new_profile(given.get("id", "p-1"), "main", BEFORE), given)


def _session(given: Mapping[str, Any]) -> Doc:
    return filled(new_session(given.get("id", "s-1"), "main", "example", BEFORE), given)


def filled(base: Doc, given: Mapping[str, Any]) -> Doc:
    """Return a document with what was given, and the rest as usual."""
    for key, value in given.items():
        inner = base.get(key)
        if isinstance(inner, dict) and isinstance(value, Mapping):
            base[key] = filled(inner, value)
        else:
            base[key] = copy.deepcopy(value)
    return base


def _read(docs: Any, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(docs, Mapping) or key not in docs:
            return ...
        docs = docs[key]
    return docs
