"""The contract of a plugin: config, ports, examples, and run(step).

A plugin is one file; its name is the file's name. It imports from here, from `headrace.engine.model` and from
`headrace.engine.errors`, and gets everything else from its `Step`.
"""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_args, get_origin, overload

import msgspec

from headrace.engine.calls.config import CallConfig, UrlOrSecret
from headrace.engine.calls.http import Http, HttpAnswer
from headrace.engine.config.base import Config
from headrace.engine.config.fields import (
    Body,
    Compiled,
    EventName,
    Expression,
    Header,
    ReadPath,
    Secret,
    SecretError,
    SegmentName,
    SourceName,
    Text,
    Url,
    Value,
    WorkflowName,
    WritePath,
)
from headrace.engine.config.literals import Duration, KindName, Pattern, PortName, WrittenSegment, Zone
from headrace.engine.config.names import ClockTime, MarkName, Named
from headrace.engine.errors import CallError, NodeError
from headrace.engine.needs import Passage
from headrace.engine.throttling import after_pass, check_limit
from headrace.engine.view import View, plain, viewed

__all__ = [
    "Body",
    "CallConfig",
    "CallError",
    "ClockTime",
    "Config",
    "Duration",
    "EventName",
    "Example",
    "Expression",
    "Header",
    "Http",
    "HttpAnswer",
    "KindName",
    "MarkName",
    "Named",
    "NodeError",
    "Out",
    "Pattern",
    "Plugin",
    "PortName",
    "ReadPath",
    "Secret",
    "SegmentName",
    "SourceName",
    "Step",
    "Text",
    "Url",
    "UrlOrSecret",
    "Value",
    "View",
    "WorkflowName",
    "WritePath",
    "WrittenSegment",
    "Zone",
    "plain",
]

T = TypeVar("T")
ERROR_PORT = "error"


ConfigType = TypeVar("ConfigType", bound=Config)


class Out(msgspec.Struct, frozen=True, gc=False):
    """The way out of a node: a port, and a JSON value that is kept as `nodes.<name>`."""

    port: str
    result: Any = None


@dataclass(frozen=True)
class Example:
    """One use of a plugin, executed by the tests and shown in its page.

    `config` as in a workflow file; what is there before (`event`, `profile` None for none, `session`, `past` events of
    the profile, newest first, other stored `profiles`); and what must come out: the port, `result` if given, and
    `changes`: the values that stand at dotted paths afterwards (`...` for none). `mocks` answer `step.http` in order.
    `awaited` is an event that comes while the node waits. The source is `trusted` when it has a key.
    """

    config: Mapping[str, Any]
    port: str
    about: str = ""
    event: Mapping[str, Any] = field(default_factory=dict)
    profile: Mapping[str, Any] | None = field(default_factory=dict)
    session: Mapping[str, Any] | None = field(default_factory=dict)
    past: Sequence[Mapping[str, Any]] = ()
    profiles: Sequence[Mapping[str, Any]] = ()
    sessions: Sequence[Mapping[str, Any]] = ()
    mocks: Sequence[Mapping[str, Any]] = ()
    at: str = "2026-01-15T12:00:00.000Z"
    result: Any = ...
    changes: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    awaited: Mapping[str, Any] | None = None
    trusted: bool = False


class Plugin(Generic[ConfigType]):
    """A kind of node. One instance is made for each node when its workflow is loaded.

    `ports` name the ways out; the port `error` is there for every plugin and taken when `run` raises. `uses` says
    what I/O the plugin does (`"http"`, `"store"`): then `run` is `async def`.
    """

    ports: ClassVar[Mapping[str, str]] = {}
    examples: ClassVar[Sequence[Example]] = ()
    uses: ClassVar[frozenset[str] | set[str]] = frozenset()
    config_type: ClassVar[type[Config]] = Config

    def __init__(self, config: ConfigType) -> None:
        self.config = config
        self.prepare()

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        for base in getattr(cls, "__orig_bases__", ()):
            if get_origin(base) is Plugin and isinstance(get_args(base)[0], type):
                cls.config_type = get_args(base)[0]

    def prepare(self) -> None:
        """Do once, at load, what need not be done for each event. Raise ValueError on a config that cannot work."""

    @classmethod
    def ports_for(cls, config: ConfigType) -> Mapping[str, str]:  # noqa: ARG003 - for those that override it
        """Return the ports of a node with this config; a plugin whose ports stand in its config overrides it."""
        return cls.ports

    def accepts(self, step: "Step") -> bool:  # noqa: ARG002 - for those that override it
        """Say whether `step.event` is the event that this node waits for; its type fits already."""
        return True

    def run(self, step: "Step") -> Out | Awaitable[Out]:
        """Do the node's work for one event; raise NodeError to fail it."""
        raise NotImplementedError


Entry = tuple[str, Any, Any]
"""One entry of a journal: what to do, where, with what."""

LogLevel = Literal["debug", "info", "warning", "error"]


class Step(msgspec.Struct, eq=False, gc=False):
    """One node at work for one event: read-only views, a journal for what it wants changed, and a few reads.

    Nothing that is written here happens before `run` has returned; when the node fails, all of it is dropped.
    """

    _passage: Passage
    name: str
    journal: list[Entry] = []

    @property
    def event(self) -> View:
        """The event."""
        return View(self._passage.scope.event)

    @property
    def profile(self) -> View:
        """The profile; empty, and so false, when the event has none."""
        return View(self._passage.scope.profile)

    @property
    def session(self) -> View:
        """The session; empty when there is none."""
        return View(self._passage.scope.session)

    @property
    def source(self) -> View:
        """The source's id, tenant and about."""
        return View(self._passage.scope.source)

    @property
    def vars(self) -> View:
        """Values that live for one run of a workflow."""
        return View(self._passage.scope.vars)

    @property
    def nodes(self) -> View:
        """Results of the nodes that ran, by name."""
        return View(self._passage.scope.nodes)

    @property
    def now(self) -> datetime:
        """The event's received time (UTC), for the whole run."""
        return self._passage.now

    @property
    def zone(self) -> tzinfo:
        """The time zone of wall clocks for which the config names none (HEADRACE_TIME_ZONE)."""
        return self._passage.zone

    @overload
    def value(self, field: Secret) -> str: ...
    @overload
    def value(self, field: Compiled[T]) -> T: ...
    def value(self, field: Compiled[Any]) -> Any:
        """Return the value of a config field for this event."""
        evaluate = field.evaluate
        try:
            return evaluate(self._passage.scope)
        except SecretError as asked:
            return self._passage.secret(asked.name)

    def test(self, condition: Expression) -> bool:
        """Return the truth of a condition."""
        evaluate = condition.evaluate
        return bool(evaluate(self._passage.scope))

    def read(self, path: str | ReadPath | WritePath) -> Any:
        """Return what stands at a path, as a view, or None."""
        field = (
            path
            if isinstance(path, ReadPath)
            else ReadPath(path.source if isinstance(path, WritePath) else path)
        )
        return viewed(field.evaluate(self._passage.scope))

    def set(self, path: str | WritePath, value: Any) -> None:
        """Write a JSON value at a path."""
        self.journal.append(("set", path, value))

    def add(self, path: str | WritePath, value: Any) -> None:
        """Put a value into the list at a path, once."""
        self.journal.append(("add", path, value))

    def remove(self, path: str | WritePath, value: Any = ...) -> None:
        """Take a value out of the list at a path; without a value, take away what stands at the path."""
        self.journal.append(("unset", path, None) if value is ... else ("remove", path, value))

    def increment(self, path: str | WritePath, by: float = 1) -> None:
        """Add to the number at a path; one that is not there counts as 0."""
        self.journal.append(("increment", path, by))

    def append(self, path: str | WritePath, value: Any) -> None:
        """Put a value at the end of the list at a path."""
        self.journal.append(("append", path, value))

    def respond(self, key: str, value: Any) -> None:
        """Put a member into the `response` of the answer."""
        self.journal.append(("respond", key, value))

    def attach(self, *, profile: str | None = None, session: str | None = None, create: bool = False) -> None:
        """Give the event a profile or a session; only for an event that has no profile.

        `profile` is the id of a stored profile, `create` makes a new one, `session` is an id, stored or new.
        """
        self.journal.append(("attach", (profile, session, create), None))

    async def identify(self, kind: str, value: Any) -> str:
        """Say that a value of a kind, such as an e-mail address, is the profile's own; returns what it means.

        Not every value is believed: one that nobody has is `kept`, or `noted` when the source has no key; `known`,
        `merged`, `moved` and `attached` say that the profile, or the one that the event goes on with, has it;
        `untrusted`, `full`, `outweighed` and `nobody` that nothing is done; `blank` that it is nobody's value.
        """
        subject = self._passage.subject
        found = await subject.ask(kind, value)
        if found is None:
            return "blank"
        self.journal.append(("identify", *found))
        return str(subject.decide(*found).value)

    async def merge(self, profile: str) -> str:
        """Merge the event's profile with another stored one: `merged`, `known` for the same one, `not_found`.

        `refused` for a source without a key, and for two that somebody took apart.
        """
        outcome, other = await self._passage.subject.may_merge(profile)
        if outcome == "merged":
            self.journal.append(("merge", other, None))
        return outcome

    def effect(self, request: Mapping[str, Any], *, ordered: bool = False) -> None:
        """Record a call that the outbox sends after the commit: method, url, headers, body."""
        self.journal.append(("effect", ordered, dict(request)))

    def emit(self, type: str, properties: Mapping[str, Any]) -> None:
        """Make an internal event, which is processed right after this one."""
        self.journal.append(("emit", type, dict(properties)))

    def start(self, workflow: str) -> None:
        """Let another workflow run for the same event, once, after those that took the event."""
        self.journal.append(("start", workflow, None))

    def wait(self, until: datetime) -> None:
        """Stop here and go on, by the port that `run` returns, at a time."""
        self.journal.append(("wait", until, None))

    def wait_for(
        self, types: Sequence[str], until: datetime, *, port: str, where: Mapping[str, Any] | None = None
    ) -> None:
        """Stop here until the profile has an event of one of these types, and go on by `port`.

        `where` holds what must stand at dotted paths of the event (`properties.order`), and the plugin's `accepts` is
        asked. When none came by the time `until`, it goes on by the port that `run` returns.
        """
        self.journal.append(("wait", until, (list(types), dict(where or {}), port)))

    def stop(self, *, event: bool = False) -> None:
        """End this run after the current wave; with `event`, no later workflow takes the event either."""
        self.journal.append(("stop", event, None))

    def throttle(self, name: str, key: str = "", *, at_most: int, period: timedelta) -> bool:
        """Say whether the profile may pass, at most so often in any period of this length; if so, count it.

        Steps with one name share what they count, by key. Raises NodeError when there is no profile.
        """
        check_limit(at_most, period)
        if after_pass(self._passage.scope.profile, name, key, at_most, period, self.now) is None:
            return False
        self.journal.append(("throttle", name, (key, at_most, period)))
        return True

    def discard(self, *, profile: bool = True, session: bool = True) -> None:
        """Give profile and session back what stood there before the event's earlier nodes; see `discard_changes`."""
        self.journal.append(("discard", profile, session))

    def mark(self, name: str) -> None:
        """Keep the time now under a name in the profile's marks."""
        self.journal.append(("mark", name, None))

    def log(self, message: str, level: LogLevel = "info") -> None:
        """Write a line to the log and to the debugger's answer."""
        self.journal.append(("log", level, message))

    async def find_profile(self, *, id: str | None = None, session: str | None = None) -> View | None:
        """Return a stored profile by its id or by a session's id, or None."""
        doc = await self._passage.reads.find_profile(id=id, session=session)
        return None if doc is None else View(doc)

    async def find_identified(self, kind: str, value: Any) -> View | None:
        """Return the profile that has an identifying value; None when none has, or the source is not trusted."""
        doc = await self._passage.subject.find(kind, value)
        return None if doc is None else View(doc)

    async def find_events(
        self, *, type: str | None = None, within: timedelta | None = None, limit: int = 10
    ) -> list[View]:
        """Return events of the profile before this one, newest first, at most 1,000."""
        found = await self._passage.reads.find_events(type=type, within=within, limit=min(limit, 1000))
        return [View(doc) for doc in found]

    async def count_events(self, *, type: str | None = None, within: timedelta | None = None) -> int:
        """Count events of the profile before this one."""
        return await self._passage.reads.count_events(type=type, within=within)

    def clock(self, started: float, ended: float) -> None:
        """Note when the node ran (seconds of the process's clock); called by the trace only."""
        self._passage.times[self.name] = (started, ended)

    @property
    def http(self) -> Http:
        """The HTTP client, for plugins that use "http"."""
        return self._passage.http.at(self._passage, self)
