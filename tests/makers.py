"""Makes what the tests of the engine need."""

import asyncio
import gc
import gzip
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, cast

from headrace.engine.calls.http import Http
from headrace.engine.catalog import Catalog, PluginInfo, find_plugins
from headrace.engine.draft import Draft
from headrace.engine.engine import Engine
from headrace.engine.files.watch import LiveWorkspace
from headrace.engine.model import (
    Answer,
    Doc,
    EventInput,
    Options,
    TrackRequest,
    iso,
    make_key,
    new_profile,
    new_session,
    utc_now,
)
from headrace.engine.passage import Passage, Surroundings
from headrace.engine.plugin import Config, Out, Plugin, Step
from headrace.engine.run import Run
from headrace.engine.settings import Settings
from headrace.engine.store.open import open_store
from headrace.engine.store.protocol import AskKind, Query, Store
from headrace.engine.testing.memory_reads import MemoryReads
from headrace.engine.workflow import Workflow, WorkflowFile, compile_workflow
from tests.stores import Place, written

NOW = datetime(2026, 1, 15, 12, 0, 0, tzinfo=UTC)
"""When the events of hand-made passages were received."""

KEPT: Mapping[str, Any] = {
    f"keep_{kind}_days": 0 for kind in ("events", "sessions", "failed", "effects", "timers", "traces")
}
"""Settings by which nothing is deleted for its age while a test is under way at `NOW`, which was long ago."""

PORTS = {"a": "One way.", "b": "Another way.", "c": "A third way."}

Does = Callable[[Step], Out]
DoesIo = Callable[[Step], Awaitable[Out]]


class Scripted(Plugin[Config]):
    """A node that does what its test says."""

    ports = PORTS

    def __init__(self, does: Does) -> None:
        self.does = does
        super().__init__(Config())

    def run(self, step: Step) -> Out:
        return self.does(step)


class ScriptedIo(Plugin[Config]):
    """The same with I/O."""

    ports = PORTS
    uses: ClassVar[set[str]] = {"store"}

    def __init__(self, does: DoesIo) -> None:
        self.does = does
        super().__init__(Config())

    async def run(self, step: Step) -> Out:
        return await self.does(step)


def leave(port: str = "a", result: Any = None) -> Does:
    """Return what a node does that only leaves by a port."""
    out = Out(port, result)
    return lambda _: out


def make_workflow(
    nodes: Mapping[str, Mapping[str, Any]],
    does: Mapping[str, Does] | None = None,
    io: Mapping[str, DoesIo] | None = None,
    *,
    name: str = "made",
    **members: Any,
) -> Workflow:
    """Compile a workflow of nodes as in a file, without `plugin`: it leaves by `a` unless `does` or `io` say more."""
    does, io = does or {}, io or {}
    text = {"on": {"event": ["*"]}, **members, "nodes": {n: {"plugin": n, **one} for n, one in nodes.items()}}
    file = WorkflowFile.model_validate(text)
    plugins: dict[str, Plugin[Any]] = {
        node: ScriptedIo(io[node]) if node in io else Scripted(does.get(node, leave())) for node in nodes
    }
    return compile_workflow(name, json.dumps(text).encode(), file, plugins)


@contextmanager
def spared_collector() -> Iterator[None]:
    """Let the collector leave alone what the suite has loaded, as the server does with what it has."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def make_passage(
    profile: Mapping[str, Any] | None = None,
    *,
    without_profile: bool = False,
    session: Mapping[str, Any] | None = None,
    without_session: bool = False,
    event: Mapping[str, Any] | None = None,
    reads: Any = None,
) -> Passage:
    """Return an event on its way with an empty profile and session; members given replace theirs."""
    draft = Draft("main", iso(NOW))
    if not without_profile:
        draft.use_profile(new_profile("p1", "main", iso(NOW)) | dict(profile or {}), (1, 0))
    if not without_session:
        draft.use_session(new_session("s1", "main", "shop", iso(NOW)) | dict(session or {}), (1, 0))
    draft.link_session()
    doc = {
        "id": "e1",
        "type": "made",
        "properties": {},
        "context": {},
        "source": "shop",
        "tenant": "main",
        "session": None if without_session else "s1",
        "profile": None if without_profile else "p1",
        "time": {"happened": iso(NOW), "received": iso(NOW), "processed": None},
    }
    around = Surroundings(reads or MemoryReads(draft, NOW), Http(), {"TOKEN": "hush"}.get)
    source = {"id": "shop", "tenant": "main", "about": ""}
    key = make_key("event", "main", "shop", "e1")
    return Passage(draft, doc | dict(event or {}), key, source, NOW, around)


def path_of(run: Run) -> list[str]:
    """Return the names of the nodes that ran, in order."""
    return [done.node.name for done in run.done]


class GivenConfig(Config):
    """Whatever a test wants to tell its plugin."""

    given: Any = None


class Emit(Plugin[GivenConfig]):
    """Makes internal events of the types in `given`."""

    ports = PORTS

    def run(self, step: Step) -> Out:
        for event_type in self.config.given:
            step.emit(event_type, {"from": step.event["type"]})
        return Out("a")


class Defer(Plugin[GivenConfig]):
    """Records a deferred call and a timer."""

    ports = PORTS

    def run(self, step: Step) -> Out:
        step.effect({"method": "POST", "url": "https://crm.example"})
        step.wait(step.now)
        return Out("a")


class Attach(Plugin[GivenConfig]):
    """Attaches what `given` says, whether it is there or not; its values name members of the event's properties."""

    ports = PORTS

    def run(self, step: Step) -> Out:
        step.attach(**{what: step.event.properties[name] for what, name in self.config.given.items()})
        return Out("a")


class Slow(Plugin[GivenConfig]):
    """Takes its time, in seconds."""

    ports = PORTS
    uses: ClassVar[set[str]] = {"store"}

    async def run(self, step: Step) -> Out:  # noqa: ARG002 - the contract of a plugin
        await asyncio.sleep(self.config.given)
        return Out("a")


class Past(Plugin[GivenConfig]):
    """Answers how many events the profile has, and which."""

    ports = PORTS
    uses: ClassVar[set[str]] = {"store"}

    async def run(self, step: Step) -> Out:
        found = await step.find_events(limit=100)
        step.respond(step.event["id"], {"count": await step.count_events(), "ids": [e["id"] for e in found]})
        return Out("a")


@cache
def catalog() -> Catalog:
    """Return the built-in plugins and those of the tests."""
    own = {"emit": Emit, "defer": Defer, "attach": Attach, "slow": Slow, "past": Past}
    infos = [PluginInfo(name, plugin, plugin.__doc__ or "", "tests") for name, plugin in own.items()]
    return Catalog([*find_plugins(()).values(), *infos])


Files = dict[str, Any]


def write_workspace(folder: Path, files: Files) -> Path:
    """Write a workspace: JSON values by file name; a name without a folder or `.json` is a workflow's.

    `sources.json` has the public source `shop`, and `segments.json` the segment `vip`, unless they are given.
    """
    usual: Files = {"sources.json": {"sources": {"shop": {}}}, "segments.json": {"segments": {"vip": {}}}}
    (folder / "workflows").mkdir(parents=True, exist_ok=True)
    for name, value in (usual | dict(files)).items():
        path = folder / (name if name.endswith(".json") else f"workflows/{name}.json")
        path.write_text(json.dumps(value), encoding="utf-8")
    return folder


def sources(**entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of sources.json."""
    return {"sources": entries}


def chain(event: str | Sequence[str], *nodes: tuple[str, Mapping[str, Any]], **members: Any) -> Doc:
    """Return a workflow's file: nodes n0, n1, … one after another, each (plugin, config), by their first port."""
    made: Doc = {}
    for number, (plugin, config) in enumerate(nodes):
        made[f"n{number}"] = {"plugin": plugin, "config": dict(config)}
        if number + 1 < len(nodes):
            info = catalog()[plugin]
            ports = info.plugin.ports_for(info.plugin.config_type.model_validate(dict(config)))
            made[f"n{number}"]["then"] = {next(iter(ports), "error"): [f"n{number + 1}"]}
    on = members.pop("on", {})
    return {
        "on": {"event": [event] if isinstance(event, str) else list(event), **on},
        "nodes": made,
        **members,
    }


def count(field: str = "profile.stats.counters.n") -> tuple[str, dict[str, Any]]:
    """Return a node that counts."""
    return "increment", {"field": field}


def make_request(
    *events: EventInput | str, source: str = "shop", door: str = "track", **more: Any
) -> TrackRequest:
    """Return a request; an event may be only its type. Words of `Options` go to the options."""
    options = {
        name: more.pop(name)
        for name in ("debugger", "profile", "save_session", "save_events")
        if name in more
    }
    inputs = [EventInput(event) if isinstance(event, str) else event for event in events]
    given: Doc = {"received": utc_now(), "session_id": "s1"} | more
    return TrackRequest(source, inputs, door, options=Options(**options), **given)


@dataclass
class Lab:
    """An engine on a store of its own, and a few ways to look into it."""

    engine: Engine
    store: Store
    place: Place

    async def track(self, *events: EventInput | str, **more: Any) -> Answer:
        """Send one request; see `make_request`."""
        return await self.engine.track(make_request(*events, **more))

    async def collect(self, event: EventInput | str, **more: Any) -> Answer:
        """Send one event as /collect does."""
        return await self.track(event, door="collect", session_id=None, profile_less=True, **more)

    async def settle(self) -> None:
        """Wait until what was committed is written, and let questions see it."""
        await written(self.store)
        self.place.show()

    async def all(self, kind: AskKind, tenant: str = "main") -> list[Doc]:
        """Return all documents of a kind that the read API finds once it sees what was written, oldest first."""
        await self.settle()
        return (await self.store.find(Query(kind, tenant=tenant, limit=1000))).items[::-1]

    async def one(self, kind: AskKind, tenant: str = "main") -> Doc:
        """Return the only document of a kind."""
        (doc,) = await self.all(kind, tenant)
        return doc

    async def counter(self, name: str = "n") -> float:
        """Return a counter of the only profile."""
        return cast(float, (await self.one("profile"))["stats"]["counters"].get(name, 0))

    async def rows(self) -> dict[str, list[Any]]:
        """Return everything that the store holds, traces aside, once all is written."""
        await written(self.store)
        return self.place.contents()


def zipped(data: bytes) -> bytes:
    """Pack bytes, always alike: they are in the names of tests, which each process must know them by."""
    return gzip.compress(data, mtime=0)


def make_engine(
    workspace: Path,
    data: Path,
    *,
    store: Store | None = None,
    secrets: Mapping[str, str] | None = None,
    **settings: Any,
) -> Engine:
    """Return an engine that was not started, with its store in a folder; raises on a workspace with problems."""
    chosen = Settings.load({}, workspace=workspace, data=data, **{**KEPT, **settings})
    secret = (secrets or {"SHOP_KEY": "hush"}).get
    live = LiveWorkspace(workspace, catalog(), secret)
    if live.refused:
        raise ValueError("\n".join(str(problem) for problem in live.refused))
    return Engine(chosen, store or open_store("sqlite:", data=data), live, secret)
