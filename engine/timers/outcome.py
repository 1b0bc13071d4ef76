"""What became of a timer."""

from enum import Enum
from typing import Any

import msgspec

from headrace.engine.files.workspace import WORKFLOWS, Workspace
from headrace.engine.model import Doc, iso_now
from headrace.engine.store.protocol import Row

_encode = msgspec.json.Encoder().encode


class Ending(Enum):
    """How an attempt to go on with a run ended."""

    FIRED = "fired"
    CANCELLED = "cancelled"
    EARLIER = "earlier"
    """Somebody went on with this run before, or cancelled it."""
    NOTHING = "nothing"
    """Nothing that it waits for has come yet."""


class Outcome(msgspec.Struct):
    """How it ended, and what is to be kept of it: `runs`, the records of what ran, or the reason."""

    ending: Ending = Ending.NOTHING
    told: Doc = {}
    late: Doc = {}
    """The `profile`, and the `session`, that the event of the run had not, and got by it."""

    def fired(self, runs: list[Doc], *, waits: bool) -> None:
        """Note that the run went on, and whether it waits again."""
        self.ending, self.told = Ending.FIRED, {"runs": runs, "waits": waits}

    def cancelled(self, reason: str) -> None:
        """Note that it never will."""
        self.ending, self.told = Ending.CANCELLED, {"reason": reason}

    def read(self, mark: Doc) -> None:
        """Note what the mark of the timer says of who was earlier."""
        self.ending, self.told = Ending.EARLIER, read_mark(mark)

    def content(self) -> Doc:
        """Return what is written of it, in the mark and in the timer."""
        return {"status": self.ending.value, "ended": iso_now(), **self.told, **self.late}


def mark_of(timer: Doc, outcome: Outcome) -> Row:
    """Return the mark that only one change can make: whoever comes second reads in it what became of the timer."""
    content = _encode(outcome.content()).decode()
    # By these it is found when a person is erased.
    whose = {name: timer.get(name) or outcome.late.get(name) for name in ("profile", "session")}
    # The time of the computer, whatever a worker's clock says: keys are looked for among those of the last weeks.
    return Row(timer["id"], {"id": "", **whose, "content": content, "received": iso_now()})


def why_cancelled(timer: Doc, workspace: Workspace) -> str:
    """Return why a run may not go on, or "": its workflow is gone, or disabled. A broken file is neither."""
    name = timer["workflow"]
    live = workspace.workflow(name)
    if live is not None:
        return "" if live.enabled else f"the workflow {name} is disabled"
    return "" if f"{WORKFLOWS}/{name}.json" in workspace.texts else f"the workflow {name} is gone"


def read_mark(mark: Doc) -> Doc:
    """Return what a mark says of its timer."""
    try:
        return msgspec.json.decode(str(mark.get("content") or ""), type=dict[str, Any])
    except msgspec.DecodeError:
        return {"status": Ending.FIRED.value}


def ended(doc: Doc, outcome: Outcome) -> Doc:
    """Return a timer's document with what became of it, without what only its run needed."""
    kept = {name: value for name, value in doc.items() if name not in ("input", "done", "vars")}
    return {**kept, **outcome.content()}
