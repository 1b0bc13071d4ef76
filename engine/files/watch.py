"""Keep a workspace current while its files change."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from headrace.engine.catalog import Catalog
from headrace.engine.config.fields import Names
from headrace.engine.errors import WorkspaceError
from headrace.engine.files.check_workflow import Surroundings, check_workflow
from headrace.engine.files.declared import FILES, SOURCES
from headrace.engine.files.json_file import parse_json_file
from headrace.engine.files.problem import Problem
from headrace.engine.files.source import Secrets
from headrace.engine.files.workspace import WORKFLOWS, Workspace, load_workspace
from headrace.engine.logs import logger
from headrace.engine.workflow import Workflow

EVERY_SECONDS = 0.25
SETTLES_SECONDS = 0.1
AFTER_FAULT_SECONDS = 10.0
MOST_WAITS = 8
"""Looks at a folder that does not settle before it is read anyway: a change is live within 2 seconds."""

Marks = tuple[tuple[str, int, int, int, int], ...]
"""Name, inode, size and times of every file that matters."""


class LiveWorkspace:
    """A workspace that follows its files. `current` is swapped whole; a broken file keeps its last good version.

    Making one loads the workspace; raises WorkspaceError when it cannot be used at all. `on_load` is called after
    every later load, refused ones too.

    Files are looked at four times a second rather than watched: that sees every kind of change, on network folders,
    through links and in containers, for 0.3 ms a look at 100 files.
    """

    def __init__(
        self,
        path: Path,
        catalog: Catalog,
        secrets: Secrets,
        on_load: Callable[["LiveWorkspace"], None] | None = None,
    ) -> None:
        # Before the load: a change while it loads is seen by the first look.
        self._marks = current_marks(path)
        self.current: Workspace = load_workspace(path, catalog, secrets)
        self.refused = errors_of(self.current)
        """Why the files as they are now are not all in use; empty when they are."""
        self._catalog = catalog
        self._secrets = secrets
        self._on_load = on_load
        self._task: asyncio.Task[None] | None = None

    def compile(self, name: str, text: bytes) -> tuple[Workflow | None, tuple[Problem, ...]]:
        """Compile an older version of a workflow: what the workspace declares now is not asked of it.

        Returns None with the reasons when it does not load here any more, for want of a plugin perhaps.
        """
        file = parse_json_file(text, f"{WORKFLOWS}/{name}.json")
        return check_workflow(name, file, Surroundings(self._catalog, Names(), {}, self._secrets))

    def start(self) -> None:
        """Begin to follow the files, in the running loop."""
        self._task = asyncio.create_task(self._follow(), name="follow workspace")

    async def stop(self) -> None:
        """Stop following the files."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def check(self) -> bool:
        """Load the files again if they changed since the last look; return whether they had."""
        marks = await asyncio.to_thread(current_marks, self.current.path)
        if marks == self._marks:
            return False
        for _ in range(MOST_WAITS):
            # An editor or a checkout may be half-way through.
            await asyncio.sleep(SETTLES_SECONDS)
            again = await asyncio.to_thread(current_marks, self.current.path)
            if again == marks:
                break
            marks = again
        self._marks = marks
        await self._load()
        return True

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            try:
                await self.check()
            # The edge of the task: whatever went wrong, the last good version goes on and the next look comes.
            except Exception as error:  # noqa: BLE001 - see above
                logger().exception("workspace_check_failed", workspace=str(self.current.path))
                message = f"the files cannot be looked at: {type(error).__name__}"
                fix = "The last good version goes on; the log has the reason."
                self.refused = (Problem(".", "", "F14", message, fix),)
                self._tell()
                self._marks = ()
                await asyncio.sleep(AFTER_FAULT_SECONDS)

    async def _load(self) -> None:
        path, last = self.current.path, self.current
        try:
            found = await asyncio.to_thread(load_workspace, path, self._catalog, self._secrets, last)
        except WorkspaceError as error:
            self.refused = (Problem(SOURCES, "", "F01", "is not there", "The last good version goes on."),)
            logger().error("workspace_refused", workspace=str(path), reason=str(error))
            self._tell()
            return
        self.current = found
        self.refused = errors_of(found)
        for problem in self.refused:
            logger().error("workspace_file_refused", file=_where(problem), problem=str(problem))
        logger().info("workspace_loaded", workflows=len(found.workflows), refused=len(found.broken))
        self._tell()

    def _tell(self) -> None:
        if self._on_load is not None:
            self._on_load(self)


def _where(problem: Problem) -> str:
    """Return the file of a problem, with line and column where they are known, as an editor takes it."""
    if problem.line is None:
        return problem.file
    return f"{problem.file}:{problem.line}" + (f":{problem.column}" if problem.column else "")


def current_marks(path: Path) -> Marks:
    """Return what tells whether a file of a workspace changed."""
    folder = path / WORKFLOWS
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".json"))  # noqa: PTH208
    except OSError as error:
        names = [f"!{error.errno}"]
    return tuple(_mark(path / file) for file in (*FILES, *(f"{WORKFLOWS}/{name}" for name in names)))


def _mark(file: Path) -> tuple[str, int, int, int, int]:
    try:
        found = file.stat()
    except OSError as error:
        return str(file), -1, error.errno or 0, 0, 0
    return str(file), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def errors_of(workspace: Workspace) -> tuple[Problem, ...]:
    """Return the problems that keep files from being used."""
    return tuple(problem for problem in workspace.problems if problem.is_error)
