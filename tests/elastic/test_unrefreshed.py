"""What is computed of a profile's events does not depend on what searches show already."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from headrace.engine.draft import PAST
from headrace.engine.model import Doc
from headrace.engine.segments.rebuild import Rebuild
from headrace.engine.store.protocol import Query
from tests.elastic.conftest import Rig
from tests.makers import Lab, make_engine, write_workspace
from tests.test_merge import living

START = datetime(2026, 1, 15, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
FILES = {"segments.json": {"segments": {"big": {"when": "events('buy').count >= 2"}}}}


async def living_after(lab: Lab, event: str, session: str, hours: int) -> Doc:
    """Send an event, and return its profile as it is then."""
    answer = await lab.track(event, session_id=session, received=START + hours * HOUR)
    assert answer.profile is not None
    return await living(lab, answer.profile["id"])


async def test_events_of_the_last_second_are_learned_and_rebuilt(rig: Rig, tmp_path: Path) -> None:
    place: Any = None
    engine = make_engine(write_workspace(tmp_path / "old", {}), tmp_path, store=rig.store, timers=False)
    later = make_engine(write_workspace(tmp_path / "new", FILES), tmp_path, store=rig.store).workspace
    await engine.start()
    try:
        lab = Lab(engine, rig.store, place)
        for session in ("learned", "rebuilt"):
            await lab.track("buy", session_id=session, received=START)
        await rig.refresh()
        await lab.track("buy", session_id="learned", received=START + HOUR)
        assert await rig.store.count(Query("event", "main")) == 2
        live: Any = engine.parts.live
        old, live.current = live.current, later
        assert (await living_after(lab, "view", "learned", 2))["segments"] == ["big"]
        live.current = old
        bought = await living_after(lab, "buy", "rebuilt", 3)
        assert PAST not in bought
        job = Rebuild(rig.store, later, "main", later.watched.lasting(), lambda: START + 4 * HOUR)
        await job.begin()
        async for _ in job.run():
            pass
        assert (job.progress.changed, job.progress.busy) == (1, 0)
        assert (await living(lab, bought["id"]))["segments"] == ["big"]
    finally:
        await engine.stop()
