"""A workflow: the model of its file, and its compiled form."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from copy import copy
from hashlib import blake2b
from operator import attrgetter
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import re2
from pydantic import Field, StringConstraints

from headrace.engine.config import fields
from headrace.engine.config.names import IDENTIFIER
from headrace.engine.plugin import ERROR_PORT, Out, Plugin, Step
from headrace.engine.trigger import FileModel, On

MAX_NODES = 200
"""Nodes in one workflow; more is a sign that it should be several."""

MOST_PLACES = 1_000
"""Places of one workflow that are kept; runs that come to others find out anew what follows."""

LONGEST_PATH = 1_000
"""Characters of a path beyond which no more is added to it; a record shows 300."""

WIDE_WAVE = 8
"""A wave of more nodes than this looks at the clock after each of them."""

LOOK_AFTER = 4
"""Nodes after which a run looks at the clock, so that the loop is given back in time."""

NodeName = Annotated[str, StringConstraints(max_length=64), IDENTIFIER]


class Retry(FileModel):
    """How often, and after how long, a failed node is tried again within the request."""

    times: int = Field(ge=1, le=5, description="How many more times the node is tried.")
    wait_seconds: float = Field(0.1, ge=0, le=5, description="Seconds before each further try.")


class NodeFile(FileModel):
    """One node: a use of a plugin."""

    plugin: str = Field(description="The plugin's name.")
    config: dict[str, Any] = Field({}, description="The plugin's config.")
    then: dict[str, list[str]] = Field({}, description="Nodes that follow, by the port that leads to them.")
    join: Literal["any", "all"] = Field(
        "any", description="`all`: run only if every edge into the node was taken."
    )
    disabled: bool = Field(default=False, description="The node does not run; edges out of it are dead.")
    timeout_seconds: float | None = Field(
        None, gt=0, le=30, description="Seconds that a node with I/O may take."
    )
    retry: Retry | None = Field(None, description="Try a failed node again.")
    about: str = Field("", description="What the node is for.")


class WorkflowFile(FileModel):
    """One workflow file; its name is the file's name."""

    schema_: str | None = Field(
        None, alias="$schema", description="The JSON Schema, for completion in an editor."
    )
    about: str = Field("", description="What the workflow is for.")
    enabled: bool = Field(default=True, description="False: takes no event.")
    order: int = Field(0, description="Workflows with a lower order take an event first; then by name.")
    stop: bool = Field(default=False, description="No later workflow takes an event that this one took.")
    on: On = Field(description="Which events it takes.")
    nodes: dict[NodeName, NodeFile] = Field(min_length=1, max_length=MAX_NODES, description="Nodes by name.")


Work = Callable[[Step], "Out | Awaitable[Out]"]
"""What a node does: its plugin's `run`, or that wrapped by a trace."""

_PLAIN_LABEL = re2.compile(r"[a-zA-Z0-9_.-]+")


class Way(msgspec.Struct, frozen=True, eq=False):
    """What follows when a node is left by one port, found out at load.

    `ready` are the nodes that may run, in file order. `joins` are the nodes with several edges of which one is now
    settled, and whether it was taken; edges that die because a node between does not run are among them.
    """

    label: str
    ready: tuple["Node", ...]
    joins: "Joins"


Joins = tuple[tuple["Node", bool], ...]


class Node:
    """A compiled node: what to call, and where each port leads.

    `then` holds indexes into `Workflow.nodes`, `targets` all edges, `ways` what follows by each port, and `skipped`
    what does when the node does not run; `held` are the ways of a node that waits, which lead nowhere yet. `bit` stands
    for the node in a set of nodes that is kept as a number. A node `is_dead` that is disabled, or that no edge can lead
    to because of that.
    """

    __slots__ = (
        "bit", "disabled", "edges_in", "held", "index", "is_async", "is_dead", "join_all", "name", "plugin",
        "plugin_name", "ports", "retry", "run", "skipped", "targets", "then", "timeout_seconds", "ways",
    )  # fmt: skip

    def __init__(self, index: int, name: str, file: NodeFile, plugin: Plugin[Any]) -> None:
        self.index = index
        self.name = name
        self.plugin = plugin
        self.plugin_name = file.plugin
        self.run: Work = plugin.run
        self.is_async = bool(plugin.uses)
        self.ports = frozenset(plugin.ports_for(plugin.config)) | {ERROR_PORT}
        self.bit = 1 << index
        self.disabled = self.is_dead = file.disabled
        self.join_all = file.join == "all"
        self.timeout_seconds = file.timeout_seconds or 10.0
        self.retry = file.retry
        self.edges_in = 0
        self.then: Mapping[str, tuple[int, ...]] = {}
        self.targets: tuple[tuple[str, Node], ...] = ()
        self.ways: Mapping[str, Way] = {}
        self.held: Mapping[str, Way] = {}
        self.skipped = Way("", (), ())

    def find_ways(self) -> None:
        """Find out what follows by each port; called when the edges of all nodes are known."""
        self.skipped = self._way(None)
        self.ways = {port: self._way(port) for port in self.ports}
        self.held = {port: Way(f"{self.name}.waits", (), ()) for port in self.ways}

    def _way(self, port: str | None) -> Way:
        ready: list[Node] = []
        joins: list[tuple[Node, bool]] = []
        edges = [(to, by == port) for by, to in reversed(self.targets)]
        while edges:
            to, is_taken = edges.pop()
            if to.is_dead:
                continue
            if to.edges_in > 1:
                joins.append((to, is_taken))
            elif is_taken:
                ready.append(to)
            else:
                edges += [(beyond, False) for _, beyond in reversed(to.targets)]
        return Way(f"{self.name}.{port}", tuple(ready), tuple(joins))


class Place:
    """Where a run stands: the nodes that come next, and the edges that are settled.

    `only` is the next node if it is one; a place `is_slow` whose nodes do I/O or are many. `count` nodes have run,
    `runs` will have when these have. At a place that `looks` a run looks at the clock; it `is_pause` for that, or where
    the nodes are slow, or at the end. `path` is the way here as a record shows it.
    `waiting` counts the waiting edges into each node; `taken` and `dead` are the bits of the nodes with several edges
    of which one is such.

    What follows from a place is found out by the first run that goes on from it, and kept in `after` by the way out of
    its node, or the ways out of its nodes; `room` holds how many places of the workflow may still be kept.
    """

    __slots__ = (
        "after", "count", "dead", "is_pause", "is_slow", "looks", "only", "path", "room", "runs", "taken", "waiting",
        "wave",
    )  # fmt: skip

    def __init__(self, wave: tuple[Node, ...], waiting: list[int], dead: int, room: list[int]) -> None:
        self.waiting = waiting
        self.taken = 0
        self.dead = dead
        self.path = ""
        self.after: dict[Way | tuple[Way, ...], Place] = {}
        self.room = room
        self.arrive(wave, 0, 0)

    def arrive(self, wave: tuple[Node, ...], before: int, count: int) -> None:
        """Say which nodes come next, after how many, and how many before the wave that has just run."""
        self.wave = wave
        self.only = wave[0] if len(wave) == 1 else None
        self.is_slow = len(wave) > WIDE_WAVE or any(node.is_async for node in wave)
        self.count = count
        self.runs = count + len(wave)
        self.looks = count // LOOK_AFTER > before // LOOK_AFTER
        self.is_pause = self.looks or self.is_slow or not wave

    def follow(self, key: Way | tuple[Way, ...]) -> "Place":
        """Return the place that follows when the nodes are left by these ways; kept, as long as there is room."""
        ways = key if isinstance(key, tuple) else (key,)
        waiting = self.waiting.copy() if any(way.joins for way in ways) else self.waiting
        after = Place((), waiting, self.dead, self.room)
        after.taken = self.taken
        ready: tuple[Node, ...] = ()
        for way in ways:
            ready += way.ready + after._settle(way.joins)
        # File order, not arrival order: two runs of one event give one trace.
        after.arrive(tuple(sorted(ready, key=attrgetter("index"))), self.count, self.runs)
        # More of a path than this is never shown.
        labels = [self.path] if self.path else []
        after.path = (
            " ".join(labels + [way.label for way in ways]) if len(self.path) < LONGEST_PATH else self.path
        )
        if self.room[0]:
            self.room[0] -= 1
            self.after[key] = after
        return after

    def _settle(self, joins: Joins) -> tuple[Node, ...]:
        """Settle one edge into each of some nodes that have several; returns those that may run now."""
        ready: tuple[Node, ...] = ()
        for to, is_taken in joins:
            if is_taken:
                self.taken |= to.bit
            else:
                self.dead |= to.bit
            self.waiting[to.index] -= 1
            if self.waiting[to.index]:
                continue
            runs = self.taken & to.bit and not (to.join_all and self.dead & to.bit)
            ready += (to,) if runs else self._settle(to.skipped.joins)
        return ready


class Takes(NamedTuple):
    """The narrowing part of `on`, compiled; what does not narrow is None or empty."""

    source: frozenset[str] | None
    when: fields.Expression | None
    consent: tuple[str, ...]


class Workflow:
    """A workflow ready to run. Nothing in it changes after it was compiled, but its places learn what follows.

    `text` is its file, which a run that waits keeps.

    One that `takes_all` is enabled, and takes every event whose type it names. `start` is the place where a run begins.
    `waiting` counts the edges into each node that are not dead from the start, and `dead` holds the bits of the nodes
    into which one is.
    """

    def __init__(self, name: str, version: str, file: WorkflowFile, nodes: tuple[Node, ...]) -> None:
        self.name = name
        self.version = version
        self.text = b""
        self.file = file
        self.enabled = file.enabled
        self.order = file.order
        self.stop = file.stop
        self.nodes = nodes
        self.traced: Workflow | None = None
        on = file.on
        self.takes = Takes(
            frozenset(on.source) if on.source is not None else None, on.when, tuple(on.consent)
        )
        self.before_consent = on.before_consent
        self.takes_all = file.enabled and self.takes == (None, None, ())
        self.waiting = [node.edges_in for node in nodes]
        self.dead = 0
        self._settle_dead()
        for node in nodes:
            node.find_ways()
        self.start = self._first_place()
        self.has_plain_labels = all(
            _PLAIN_LABEL.fullmatch(way.label) for node in nodes for way in node.ways.values()
        )
        self._matches = one_of(on.event)

    def _settle_dead(self) -> None:
        """Settle the edges that are dead before any run: those out of disabled nodes, and what follows from them."""
        dead = [node for node in self.nodes if node.disabled]
        while dead:
            for _, to in dead.pop().targets:
                self.waiting[to.index] -= 1
                self.dead |= to.bit
                if not self.waiting[to.index] and not to.is_dead:
                    to.is_dead = True
                    dead.append(to)

    def _first_place(self) -> Place:
        starts = tuple(node for node in self.nodes if not node.edges_in and not node.is_dead)
        return Place(starts, self.waiting, self.dead, [MOST_PLACES])

    def place_after(self, done: Iterable[Way], leaving: Sequence[Way]) -> Place:
        """Return the place of a run in which some nodes were left before, and some that waited are left now.

        Neither it nor what follows is kept: most runs do not come by.
        """
        place = Place((), self.waiting.copy(), self.dead, [0])
        for way in done:
            place._settle(way.joins)
        return place.follow(tuple(leaving))

    def matches(self, event_type: str) -> bool:
        """Say whether `on.event` names this type."""
        return self._matches(event_type) is not None


def one_of(patterns: list[str]) -> Callable[[str], object]:
    """Return what says whether a text fits a pattern; raises ValueError when they are too many `*` together."""
    if not patterns:
        return lambda _: None
    # re2: linear in the type's length, however many `*` an author writes.
    options = re2.Options()
    options.log_errors = False
    text = "(?s)" + "|".join(f"(?:{wildcard(pattern)})" for pattern in patterns)
    try:
        matches: Callable[[str], object] = re2.compile(text, options).fullmatch
    except re2.error:
        raise ValueError("the names have too many * together") from None
    return matches


def wildcard(pattern: str) -> str:
    """Return the regular expression of a name in which `*` stands for any text."""
    return ".*".join(re2.escape(part) for part in pattern.split("*"))


def compile_workflow(
    name: str, text: bytes, file: WorkflowFile, plugins: Mapping[str, Plugin[Any]]
) -> Workflow:
    """Compile a workflow whose file was checked by lint. Raises ValueError when `on.event` is too large.

    `plugins` holds an instance for each node, by the node's name. The version is a hash of the file's bytes.
    """
    order = {node: index for index, node in enumerate(file.nodes)}
    nodes = tuple(Node(order[node], node, entry, plugins[node]) for node, entry in file.nodes.items())
    for node, entry in zip(nodes, file.nodes.values(), strict=True):
        # File order within a port, and each target once: two edges from one port to one node are one edge.
        node.then = {port: tuple(sorted({order[to] for to in after})) for port, after in entry.then.items()}
        node.targets = tuple((port, nodes[to]) for port, after in node.then.items() for to in after)
        for _, to in node.targets:
            to.edges_in += 1
    version = blake2b(text, digest_size=6).hexdigest()
    workflow = Workflow(name, version, file, nodes)
    workflow.text = text
    return workflow


def with_runs(workflow: Workflow, run_of: Callable[[Node], Work]) -> Workflow:
    """Return a copy of a workflow in which each node runs what `run_of` gives for it."""
    changed = copy(workflow)
    changed.traced = None
    nodes = [copy(node) for node in workflow.nodes]
    for node, before in zip(nodes, workflow.nodes, strict=True):
        node.run = run_of(before)
        node.targets = tuple((port, nodes[to.index]) for port, to in before.targets)
    for node in nodes:
        node.find_ways()
    changed.nodes = tuple(nodes)
    changed.start = changed._first_place()
    return changed
