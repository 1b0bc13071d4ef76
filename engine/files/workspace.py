"""A workspace: everything that its files declare, as one snapshot."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from headrace.engine.catalog import Catalog
from headrace.engine.errors import WorkspaceError
from headrace.engine.files.check_starts import without_circles
from headrace.engine.files.check_workflow import Surroundings, check_workflow
from headrace.engine.files.declared import FILES, SOURCES, Declared, read_declared
from headrace.engine.files.event_type import EventType
from headrace.engine.files.goal import Goal
from headrace.engine.files.identify import NO_IDENTIFIERS, Identifiers, compile_identifiers
from headrace.engine.files.json_file import read_json_file
from headrace.engine.files.problem import Problem
from headrace.engine.files.source import Secrets, Source
from headrace.engine.files.watched import NOTHING, Watched
from headrace.engine.model import utc_now
from headrace.engine.suggest import did_you_mean
from headrace.engine.workflow import Workflow

WORKFLOWS = "workflows"
TEST_ENDING = ".test.json"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_MOST_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Workspace:
    """One state of a workspace. Nothing in it changes: a change of a file makes a new one.

    `workflows` stand in the order in which they take an event. `problems` are all findings, of broken files
    too: those are left out, or their last good version is here.
    """

    path: Path
    declared: Declared
    sources: Mapping[str, Source]
    event_types: Mapping[str, EventType]
    segments: frozenset[str]
    goals: Mapping[str, Goal]
    workflows: tuple[Workflow, ...]
    problems: tuple[Problem, ...]
    loaded: datetime
    texts: Mapping[str, bytes] = field(repr=False)
    merge_rules: Mapping[str, str] = field(default_factory=dict)
    """How fields become one when profiles are merged: strategies by path, such as `profile.traits.age`."""
    identifiers: Identifiers = NO_IDENTIFIERS
    """Which values of events say who it is."""
    watched: Watched = NOTHING
    """What its computed segments and its goals want to know of events."""
    asking: frozenset[str] = frozenset()
    """Tenants of which a source asks for consents."""
    _by_type: dict[str, tuple[Workflow, ...]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def timed(self) -> Mapping[str, str] | None:
        """The paths, beside traits, whose times of writing merges ask for; None when nobody is ever merged."""
        return self.merge_rules if self.merge_rules or self.identifiers else None

    @property
    def broken(self) -> tuple[str, ...]:
        """The files that have errors."""
        return tuple(dict.fromkeys(problem.file for problem in self.problems if problem.is_error))

    def workflows_for(self, event_type: str) -> tuple[Workflow, ...]:
        """Return the workflows, disabled ones too, whose `on.event` names this type, in their order."""
        known = self._by_type.get(event_type)
        if known is None:
            known = tuple(workflow for workflow in self.workflows if workflow.matches(event_type))
            if len(self._by_type) >= _MOST_REMEMBERED:
                # Types come from clients: what is remembered of them must be bounded.
                self._by_type.clear()
            self._by_type[event_type] = known
        return known

    def only(self, event_type: str, workflow: Workflow) -> "Workspace":
        """Return the same workspace in which events of a type are for one workflow, and for it alone."""
        return replace(self, _by_type={event_type: (workflow,)})

    def workflow(self, name: str) -> Workflow | None:
        """Return the workflow of a name, or None."""
        return next((workflow for workflow in self.workflows if workflow.name == name), None)


def load_workspace(
    path: Path, catalog: Catalog, secrets: Secrets, last: Workspace | None = None
) -> Workspace:
    """Load a workspace; broken files are left out, or keep the version of `last`, and stand in `problems`.

    Raises WorkspaceError when there are no sources: without them no event can be taken. A sources.json that is not
    there any more means that the folder is away, so then nothing of `last` is changed either.
    """
    found = read_declared(path, secrets)
    if SOURCES in found.missing:
        last = None
    declared = found.or_else(last.declared if last else None)
    if declared.sources is None:
        lines = "\n".join(f"  {problem}" for problem in found.problems if problem.is_error)
        raise WorkspaceError(f"The workspace {path} cannot be used:\n{lines}")
    around = Surroundings(catalog, declared.names, declared.event_types or {}, secrets)
    workflows, problems, texts = _read_workflows(path, around, found, last)
    return Workspace(
        path=path,
        declared=declared,
        sources=declared.sources,
        event_types=declared.event_types or {},
        segments=frozenset(declared.segments or ()),
        goals=declared.goals or {},
        workflows=workflows,
        problems=(*catalog.problems, *found.problems, *problems, *stray_files(path)),
        loaded=utc_now(),
        texts=texts,
        identifiers=compile_identifiers(declared.event_types or {}),
        merge_rules=declared.merge_rules,
        watched=Watched(declared.segments or {}, declared.goals or {}),
        asking=frozenset(source.tenant for source in declared.sources.values() if source.consents),
    )


def _read_workflows(
    path: Path, around: Surroundings, found: Declared, last: Workspace | None
) -> tuple[tuple[Workflow, ...], list[Problem], dict[str, bytes]]:
    kept = {workflow.name: workflow for workflow in last.workflows} if last else {}
    names, problems = list_workflows(path)
    around = replace(around, names=replace(around.names, workflows=frozenset(names)))
    files = {name: read_json_file(path, f"{WORKFLOWS}/{name}.json") for name in names}
    texts = {file.file: file.data for file in files.values()}
    # A workflow is compiled again only if its file, or what it is checked against, has changed.
    # An empty file and one that is not there have the same text.
    same = (
        last is not None
        and last.declared.texts == found.texts
        and last.declared.missing == found.missing
        and last.texts.keys() == texts.keys()
    )
    workflows: dict[str, Workflow] = {}
    for name, file in files.items():
        if last is not None and same and file.data and last.texts.get(file.file) == file.data:
            workflow = kept.get(name)
            problems += [one for one in last.problems if one.file == file.file and one.code != "W20"]
        else:
            workflow, own = check_workflow(name, file, around)
            workflow = workflow or kept.get(name)
            problems += own
        if workflow is not None:
            workflows[name] = workflow
    workflows, circles = without_circles(workflows, kept, files)
    ordered = sorted(workflows.values(), key=lambda workflow: (workflow.order, workflow.name))
    return tuple(ordered), problems + circles, texts


def list_workflows(path: Path) -> tuple[list[str], list[Problem]]:
    """Return the names of the workflows in a workspace, and what is wrong with the names of other files."""
    try:
        files = sorted(file.name for file in (path / WORKFLOWS).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return [], []
    except OSError as error:
        return [], [Problem(WORKFLOWS, "", "F01", f"cannot be read: {error.strerror}")]
    names, problems = [], []
    for file in files:
        if not file.endswith(".json") or file.endswith(TEST_ENDING) or file.startswith("."):
            continue
        name = file.removesuffix(".json")
        if _NAME.fullmatch(name):
            names.append(name)
        else:
            fix = "Use at most 64 small letters, digits, - and _, such as big-order.json."
            message = "the file's name cannot be the name of a workflow"
            problems.append(Problem(f"{WORKFLOWS}/{file}", "", "F11", message, fix))
    return names, problems


def stray_files(path: Path) -> Iterator[Problem]:
    """Yield JSON files that stand where nothing reads them: beside the four known ones, or in folders of workflows."""
    yield from _too_deep(path)
    try:
        files = sorted(file.name for file in path.iterdir() if file.suffix == ".json")
    except OSError:
        return
    for file in files:
        if file not in FILES and not file.startswith("."):
            near = did_you_mean(file.removesuffix(".json"), [known.removesuffix(".json") for known in FILES])
            fix = (
                near.replace("'?", ".json'?")
                if near.startswith("Did")
                else f"A workflow belongs into {WORKFLOWS}/."
            )
            yield Problem(file, "", "F13", "the file is not read here", fix)


def _too_deep(path: Path) -> Iterator[Problem]:
    try:
        folders = [folder for folder in (path / WORKFLOWS).iterdir() if folder.is_dir()]
        files = sorted(file for folder in folders for file in folder.rglob("*.json"))
    except OSError:
        return
    for file in (file.relative_to(path) for file in files):
        if not any(part.startswith(".") for part in file.parts):
            fix = f"Move it to {WORKFLOWS}/{file.name}: folders in {WORKFLOWS}/ are not read."
            yield Problem(file.as_posix(), "", "F13", "the file is not read here", fix)
