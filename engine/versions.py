"""Versions of workflows, in which their runs go on."""

from headrace.engine.errors import StoreError
from headrace.engine.files.watch import LiveWorkspace
from headrace.engine.held import VersionError
from headrace.engine.model import iso_now, make_key
from headrace.engine.store.protocol import Ref, Row, State
from headrace.engine.workflow import Workflow

MOST_COMPILED = 64
"""Versions that are not live any more and are kept compiled."""

MOST_KEPT = 4096


class Versions:
    """Keeps the file of a workflow that waits in the store, and compiles it again when it is needed."""

    def __init__(self, store: State, live: LiveWorkspace) -> None:
        self._store = store
        self._live = live
        self._kept: set[str] = set()
        self._compiled: dict[str, Workflow] = {}

    async def keep(self, workflow: Workflow) -> None:
        """Keep a workflow's file in the store, once in a process. Raises StoreError."""
        key = make_key("workflow", workflow.name, workflow.version)
        if key in self._kept:
            return
        try:
            text = workflow.text.decode()
        except UnicodeDecodeError:
            raise StoreError(f"The file of the workflow {workflow.name} is not UTF-8.") from None
        doc = {"name": workflow.name, "version": workflow.version, "text": text, "created": iso_now()}
        await self._store.keep_workflow(Row(key, doc))
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        self._kept.add(key)

    async def find(self, name: str, version: str) -> Workflow:
        """Return a version of a workflow. Raises VersionError when it cannot be had here, StoreError."""
        live = self._live.current.workflow(name)
        if live is not None and live.version == version:
            return live
        key = make_key("workflow", name, version)
        found = self._compiled.pop(key, None)
        if found is None:
            found = await self._compile(name, version, key)
        # What was used last stands last.
        self._compiled[key] = found
        if len(self._compiled) > MOST_COMPILED:
            del self._compiled[next(iter(self._compiled))]
        return found

    async def _compile(self, name: str, version: str, key: str) -> Workflow:
        (stored,) = await self._store.read([Ref("workflow", key)])
        if stored is None:
            raise VersionError(f"version {version} of the workflow {name} is not kept")
        workflow, problems = self._live.compile(name, str(stored.doc["text"]).encode())
        if workflow is None:
            reason = next((str(problem) for problem in problems if problem.is_error), "")
            raise VersionError(f"version {version} of the workflow {name} does not load any more: {reason}")
        return workflow
