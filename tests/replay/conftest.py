"""What the tests of replays share."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from headrace.engine.files.workspace import Workspace, load_workspace
from headrace.engine.replay.answers import Answer
from headrace.engine.replay.dry import DryReplay, Replayed
from headrace.engine.replay.past import Gathered, gather
from headrace.engine.replay.scratch import Scratch
from headrace.engine.settings import Settings
from headrace.engine.store.looking import Looking, open_looking
from headrace.engine.store.protocol import Query
from tests.makers import Files, Lab, catalog, write_workspace

Mocks = Mapping[tuple[str, str], Answer]


class Replayer:
    """Replays the events of a lab against drafts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._drafts = 0

    def draft(self, files: Files) -> Workspace:
        """Write and load a draft."""
        self._drafts += 1
        path = write_workspace(self._folder / f"draft{self._drafts}", files)
        loaded = load_workspace(path, catalog(), {"SHOP_KEY": "hush"}.get)
        assert [str(each) for each in loaded.problems if each.is_error] == []
        return loaded

    @asynccontextmanager
    async def looking(self, lab: Lab) -> AsyncIterator[Looking]:
        """Open a lab's store to look into it, with all that was written there to be seen."""
        await lab.engine.parts.keeper.flush()
        await lab.settle()
        look = await open_looking(lab.place.url, data=lab.engine.settings.data)
        try:
            yield look
        finally:
            await look.close()

    async def __call__(
        self, lab: Lab, files: Files, mocks: Mocks | None = None, query: Query | None = None, **more: Any
    ) -> list[Replayed]:
        """Replay events of a lab against a draft, all of them unless a query says which."""
        done, _ = await self.counted(lab, files, mocks, query, **more)
        return done

    async def counted(
        self,
        lab: Lab,
        files: Files,
        mocks: Mocks | None = None,
        query: Query | None = None,
        *,
        limit: int = 1000,
        code: str = "",
    ) -> tuple[list[Replayed], Gathered]:
        """Do the same, and say what was found."""
        scratch = Scratch()
        async with self.looking(lab) as look:
            found = await gather(look, query or Query("event"), scratch, limit, code, lambda _: None)
            job = DryReplay(self.draft(files), {"SHOP_KEY": "hush"}.get, Settings(), look, scratch, mocks)
            done = [await job.run(event) for event in scratch.oldest_first()]
        scratch.close()
        return done, found


@pytest.fixture
def replay(tmp_path: Path) -> Replayer:
    """Return what replays the events of a lab against a draft."""
    return Replayer(tmp_path)


def said(replayed: Replayed) -> list[tuple[Any, ...]]:
    """Return the differences of a replay in short: what, of which workflow, then, now."""
    return [(one["what"], one.get("workflow"), one["then"], one["now"]) for one in replayed.differences]
