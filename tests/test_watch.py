"""A workspace follows its files; a broken one keeps its last version."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter

import pytest
from structlog.testing import capture_logs

from headrace.engine.catalog import Catalog, find_plugins
from headrace.engine.errors import WorkspaceError
from headrace.engine.files.watch import LiveWorkspace


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return find_plugins(())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    (folder / "workflows").mkdir(parents=True)
    write(folder / "sources.json", {"sources": {"shop": {}}})
    write(folder / "segments.json", {"segments": {"vip": {}}})
    write(folder / "workflows/welcome.json", workflow("one"))
    return folder


def write(file: Path, value: object) -> None:
    file.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def workflow(about: str, plugin: str = "log", config: object = None) -> dict[str, object]:
    node = {"plugin": plugin, "config": config or {"message": "hello"}}
    return {"about": about, "on": {"event": ["order"]}, "nodes": {"a": node}}


def unset(_: str) -> str | None:
    return None


def about(live: LiveWorkspace) -> list[str]:
    return [one.file.about for one in live.current.workflows]


@asynccontextmanager
async def following(folder: Path, catalog: Catalog) -> AsyncIterator[LiveWorkspace]:
    live = LiveWorkspace(folder, catalog, unset)
    live.start()
    try:
        yield live
    finally:
        await live.stop()


async def within_two_seconds(holds: Callable[[], bool]) -> None:
    end = perf_counter() + 2
    while not holds():
        assert perf_counter() < end, "it took longer than 2 s"
        await asyncio.sleep(0.02)


async def test_a_change_is_live_within_two_seconds(folder: Path, catalog: Catalog) -> None:
    async with following(folder, catalog) as live:
        write(folder / "workflows/welcome.json", workflow("two"))
        await within_two_seconds(lambda: about(live) == ["two"])


async def test_an_editor_that_renames(folder: Path, catalog: Catalog) -> None:
    async with following(folder, catalog) as live:
        write(folder / "workflows/.welcome.json.tmp", workflow("two"))
        (folder / "workflows/.welcome.json.tmp").replace(folder / "workflows/welcome.json")
        await within_two_seconds(lambda: about(live) == ["two"])


async def test_files_come_and_go(folder: Path, catalog: Catalog) -> None:
    live = LiveWorkspace(folder, catalog, unset)
    assert not await live.check()
    write(folder / "workflows/another.json", workflow("zwei"))
    assert await live.check()
    assert about(live) == ["zwei", "one"]
    (folder / "workflows/welcome.json").unlink()
    assert await live.check()
    assert about(live) == ["zwei"]
    assert not await live.check()


async def test_a_broken_file_keeps_its_last_good_version(folder: Path, catalog: Catalog) -> None:
    live = LiveWorkspace(folder, catalog, unset)
    write(folder / "workflows/welcome.json", "{")
    write(folder / "workflows/another.json", workflow("new"))
    await live.check()
    assert about(live) == ["new", "one"]
    assert [problem.code for problem in live.refused] == ["F05"]
    assert live.current.broken == ("workflows/welcome.json",)
    write(folder / "workflows/another.json", workflow("newer"))
    await live.check()
    assert about(live) == ["newer", "one"]
    write(folder / "workflows/welcome.json", workflow("mended"))
    await live.check()
    assert about(live) == ["newer", "mended"]
    assert live.refused == ()


async def test_a_change_elsewhere_that_breaks_a_workflow(folder: Path, catalog: Catalog) -> None:
    write(folder / "workflows/welcome.json", workflow("vip", "add_segment", {"segment": "vip"}))
    live = LiveWorkspace(folder, catalog, unset)
    write(folder / "segments.json", {"segments": {}})
    await live.check()
    assert about(live) == ["vip"]
    assert [problem.code for problem in live.refused] == ["N01"]


@pytest.mark.parametrize("file", ["sources.json", "segments.json"])
async def test_broken_declarations_keep_their_last_good_version(
    folder: Path, catalog: Catalog, file: str
) -> None:
    live = LiveWorkspace(folder, catalog, unset)
    write(folder / file, "")
    await live.check()
    assert list(live.current.sources) == ["shop"]
    assert live.current.segments == {"vip"}
    assert [problem.file for problem in live.refused] == [file]


async def test_an_empty_file_that_goes(folder: Path, catalog: Catalog) -> None:
    write(folder / "workflows/welcome.json", workflow("vip", "add_segment", {"segment": "vip"}))
    live = LiveWorkspace(folder, catalog, unset)
    write(folder / "segments.json", "")
    await live.check()
    assert [problem.code for problem in live.refused] == ["F04"]
    (folder / "segments.json").unlink()
    await live.check()
    # Nothing is declared now, so the workflow that names a segment is checked again.
    assert [problem.code for problem in live.refused] == ["N01"]
    assert about(live) == ["vip"]


async def test_the_log_says_where(folder: Path, catalog: Catalog) -> None:
    live = LiveWorkspace(folder, catalog, unset)
    write(folder / "workflows/welcome.json", '{\n  "on" {}\n}')
    with capture_logs() as logs:
        await live.check()
    (refused,) = [entry for entry in logs if entry["event"] == "workspace_file_refused"]
    assert refused["file"] == "workflows/welcome.json:2:8"


async def test_a_folder_that_goes_and_comes_back(folder: Path, catalog: Catalog) -> None:
    calls: list[int] = []
    live = LiveWorkspace(folder, catalog, unset, lambda live: calls.append(len(live.refused)))
    shutil.move(folder, folder.parent / "away")
    await live.check()
    assert about(live) == ["one"]
    assert [str(problem) for problem in live.refused] == [
        "sources.json: is not there. The last good version goes on. [F01]"
    ]
    shutil.move(folder.parent / "away", folder)
    await live.check()
    assert about(live) == ["one"]
    assert live.refused == ()
    assert calls == [1, 0]


async def test_a_linked_folder_that_is_switched(folder: Path, catalog: Catalog) -> None:
    other = folder.parent / "other"
    shutil.copytree(folder, other)
    write(other / "workflows/welcome.json", workflow("two"))
    link = folder.parent / "link"
    link.symlink_to(folder)
    live = LiveWorkspace(link, catalog, unset)
    link.unlink()
    link.symlink_to(other)
    await live.check()
    assert about(live) == ["two"]


async def test_a_file_that_is_half_written(folder: Path, catalog: Catalog) -> None:
    file = folder / "workflows/welcome.json"
    text = json.dumps(workflow("two", config={"message": "x" * 1000}))
    async with following(folder, catalog) as live:
        for cut in range(0, len(text), 200):
            write(file, text[:cut])
            await asyncio.sleep(0.03)
        write(file, text)
        await within_two_seconds(lambda: about(live) == ["two"])
        assert live.refused == ()


async def test_a_change_right_after_the_load(folder: Path, catalog: Catalog) -> None:
    live = LiveWorkspace(folder, catalog, unset)
    write(folder / "workflows/welcome.json", workflow("two"))
    assert await live.check()
    assert about(live) == ["two"]


async def test_stop_without_start(folder: Path, catalog: Catalog) -> None:
    await LiveWorkspace(folder, catalog, unset).stop()


def test_without_sources_nothing_starts(tmp_path: Path, catalog: Catalog) -> None:
    with pytest.raises(WorkspaceError):
        LiveWorkspace(tmp_path, catalog, unset)


async def test_a_fault_while_looking_is_told_and_ends_with_it(
    folder: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a fault")

    told: list[tuple[str, ...]] = []
    monkeypatch.setattr("headrace.engine.files.watch.AFTER_FAULT_SECONDS", 0.1)
    live = LiveWorkspace(
        folder, catalog, unset, lambda now: told.append(tuple(each.code for each in now.refused))
    )
    live.start()
    try:
        with monkeypatch.context() as patched:
            patched.setattr("headrace.engine.files.watch.load_workspace", broken)
            write(folder / "workflows/welcome.json", workflow("two"))
            await within_two_seconds(lambda: told[-1:] == [("F14",)])
            assert about(live) == ["one"]
        await within_two_seconds(lambda: told[-1:] == [()])
        assert about(live) == ["two"]
    finally:
        await live.stop()
