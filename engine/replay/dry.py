"""Replays events dry, and compares them with what happened then."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from headrace.engine.files.source import Source
from headrace.engine.files.workspace import Workspace
from headrace.engine.identity.values.decide import Decision
from headrace.engine.model import Doc, EventInput, TrackRequest, from_iso
from headrace.engine.passage import Passage
from headrace.engine.replay.account import Account, account_now, account_then
from headrace.engine.replay.answers import Answer, StandIns
from headrace.engine.replay.compare import compare
from headrace.engine.replay.overlay import Overlay
from headrace.engine.replay.past import REFUSED
from headrace.engine.replay.scratch import Scratch
from headrace.engine.request import Admission, Incoming, Job
from headrace.engine.schedule import TYPE as TICK
from headrace.engine.settings import Settings
from headrace.engine.steps.admit import INTERNAL
from headrace.engine.store.looking import Looking
from headrace.engine.testing.dry import dry_parts
from headrace.engine.trace import full_trace
from headrace.engine.track import commit_all
from headrace.engine.view import plain
from headrace.engine.writing.path import compile_path

ALIKE = ("context", "source", "tenant", "door", "device", "page", "utm")
"""Members of an event that came with its request, or were made from it; a replay takes them as they were kept."""

WITHOUT_SESSION = ("collect", "import")
"""Doors whose events without a profile had no session either: one that is there was attached by a workflow."""


@dataclass
class Replayed:
    """One event that was replayed. It differs when `differences` has any; `problem` says why it could not be run."""

    event: Doc
    then: Account
    now: Account
    differences: list[Doc] = field(default_factory=list)
    answers: dict[str, dict[str, str]] = field(default_factory=dict)
    """Where the answers of calls came from, by workflow and node: `recorded`, `mock` or `none`."""
    traces: list[Doc] = field(default_factory=list)
    """What happened now, node by node."""
    problem: str = ""

    @property
    def differs(self) -> bool:
        """Say whether anything came out otherwise."""
        return bool(self.differences or self.problem)


@dataclass
class Summary:
    """What a replay came to; of each workflow how often it ran then and now, and in how many events it differs."""

    events: int = 0
    differ: int = 0
    problems: int = 0
    then: Counter[str] = field(default_factory=Counter)
    now: Counter[str] = field(default_factory=Counter)
    differing: Counter[str] = field(default_factory=Counter)

    def add(self, replayed: Replayed) -> None:
        """Count one event."""
        self.events += 1
        self.differ += replayed.differs
        self.problems += bool(replayed.problem)
        self.then.update(_ran(replayed.then))
        self.now.update(_ran(replayed.now))
        self.differing.update({one.get("workflow", "") for one in replayed.differences} - {""})

    @property
    def workflows(self) -> list[str]:
        """Every workflow that ran then or now, or differs."""
        return sorted(self.then.keys() | self.now.keys() | self.differing.keys())


def _ran(account: Account) -> list[str]:
    """Return the workflow of every run, those of internal events too."""
    mine = [name for name, run in account.runs.items() if "skipped" not in run]
    return mine + [name for inner in account.events.values() for name in _ran(inner)]


class DryReplay:
    """Replays events one after another, in the order in which they were received.

    Profile and session are as the store has them now, and as the events before left them.
    """

    def __init__(
        self,
        workspace: Workspace,
        secrets: Callable[[str], str | None],
        settings: Settings,
        look: Looking,
        scratch: Scratch,
        mocks: Mapping[tuple[str, str], Answer] | None = None,
    ) -> None:
        self._look = look
        self._overlay = Overlay(look, scratch, workspace.watched)
        self._answers = StandIns(mocks or {})
        self.workspace = self._answers.fit(workspace)
        self._parts = dry_parts(self.workspace, secrets, settings, self._overlay)

    async def run(self, event: Doc) -> Replayed:
        """Replay one event; nothing of it reaches the store or the network. Raises StoreError."""
        then, traces = await account_then(self._look, event)
        source = self.workspace.sources.get(event["source"])
        if source is None:
            text = f"the workspace has no source '{event['source']}'"
            return Replayed(event, then, Account(event["type"]), problem=text)
        self._overlay.begin(event)
        self._answers.begin(traces)
        job = past_job(source, event, meant_for(event, self.workspace))
        await commit_all(self._parts, job)
        passages = [passage for attempt in job.committed for passage in attempt.passages]
        errors = [error for attempt in job.committed for error in attempt.errors]
        now = account_now(passages, errors, self._overlay.effects, self._overlay.timers)
        now.type = event["type"]
        return Replayed(
            event,
            then,
            now,
            compare(then, now, lambda path: standing(passages, path)),
            self._answers.used,
            [full_trace(run, passage.event["id"]) for passage in passages for run in passage.runs],
        )


def is_tick(event: Doc) -> bool:
    """Say whether an event is a tick of a schedule."""
    return bool(event["type"] == TICK and event["door"] == INTERNAL)


def meant_for(event: Doc, workspace: Workspace) -> Workspace:
    """Return the workspace as the event meets it: that of a tick is for the workflow of its schedule alone."""
    if not is_tick(event):
        return workspace
    workflow = workspace.workflow(str(event["properties"].get("workflow")))
    return replace(workspace, _by_type={TICK: ()}) if workflow is None else workspace.only(TICK, workflow)


def past_job(source: Source, event: Doc, workspace: Workspace, received: datetime | None = None) -> Job:
    """Return an event of the past as a request at work: its key, times and surroundings are those of then.

    `received` is another time for it to run at. Keys, doors and limits of the source are not asked: it was taken.
    """
    # What an event was made of is kept with it; one that was refused is made anew.
    context = plain(event["context"]) if REFUSED in event else {}
    given = EventInput(
        event["type"],
        plain(event["properties"]),
        context,
        event["id"],
        event["time"].get("claimed"),
        version=event.get("version"),
    )
    nobody = event["profile"] is None or event.get("profile_by", "session") is None
    session = None if nobody and event["door"] in WITHOUT_SESSION else event["session"]
    is_dry = received is None
    received = received or from_iso(event["time"]["received"])
    request = TrackRequest(
        source.id,
        [given],
        event["door"],
        received,
        session_id=session,
        profile_id=None if nobody else event["profile"],
        profile_less=nobody,
    )
    admission = Admission(source, tracing=False, debugger=is_dry, debugger_refused=False, not_kept="")
    job = Job(request, admission, workspace)
    if is_dry or REFUSED not in event:
        # Whose an event was is not found out again, and its session may be somebody else's by now.
        job.may_detour = frozenset() if is_dry else frozenset((Decision.MERGED,))
    job.is_reshaped = "reshaped" in event
    if REFUSED not in event:
        happened = event["time"]["happened"]
        job.incoming = [Incoming(given, event["id"], event["key"], event.get("content", ""), happened)]
        job.alike = {name: plain(event[name]) for name in ALIKE}
    return job


def standing(passages: list[Passage], path: str) -> Any:
    """Return what stands at a path of profile or session after the replay, or None."""
    docs = passages[-1].docs if passages else {}
    # A member that is not there reads as MISSING, which equals nothing that is kept.
    value = compile_path(path).read(docs)
    return value if value is None or isinstance(value, bool | int | float | str | list | dict) else None
