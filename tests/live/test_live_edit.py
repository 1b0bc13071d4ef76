"""A running server follows its files; broken ones change nothing."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import Starts
from tests.live.server import ROOT, TOKEN, Doc, Server, track_body, write_workspace

LIVE_WITHIN_SECONDS = 2.0


@pytest.fixture
def store_kind() -> str:
    """Use one store: this is about files of a workspace."""
    return "embedded"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Copy the example workspace."""
    return Path(shutil.copytree(ROOT / "workflows" / "shop", tmp_path / "shop"))


def greeting(text: str) -> Doc:
    """Return a workflow that answers with a text."""
    hello = {"plugin": "respond", "config": {"members": {"hello": text}}}
    return {"on": {"event": ["greet"]}, "nodes": {"hello": hello}}


def write(path: Path, workflow: Any) -> None:
    """Write a workflow's file; a text as it is."""
    path.write_text(workflow if isinstance(workflow, str) else json.dumps(workflow))


def ask(server: Server) -> Any:
    """Send an event and return what the workflow answers."""
    status, answer = server.post(track_body("greet"))
    assert status == 200
    return answer.get("response", {}).get("hello")


def soon(check: Callable[[], bool]) -> float:
    """Wait until something is so, as long as a change may take; returns the seconds."""
    began = time.monotonic()
    while not check():
        assert time.monotonic() - began < LIVE_WITHIN_SECONDS, "not live in time"
        time.sleep(0.02)
    return time.monotonic() - began


def problems(server: Server) -> list[Doc]:
    """Return the errors that /readyz tells one with the token."""
    found: list[Doc] = server.get("/readyz")[1].get("problems", [])
    return [problem for problem in found if problem["severity"] == "error"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_printed_curl_shows_the_way_and_an_edit_is_live(start: Starts, shop: Path) -> None:
    server = start(shop, command="dev", HEADRACE_LOG_FORMAT="json")
    (command,) = [line for line in server.text().splitlines() if line.startswith("curl ")]

    def run() -> Doc:
        done = subprocess.run(["sh", "-c", command], capture_output=True, check=True, timeout=20)
        answer: Doc = json.loads(done.stdout)
        return answer

    answer = run()
    assert answer["profile"]["id"]
    assert answer["debugging"]["profile"]["saved"] == 1
    runs = {run["workflow"]: run for each in answer["debugging"]["execution"].values() for run in each}
    assert runs["welcome"]["path"] == ["is_new", "mark", "welcome"]
    assert answer["response"]["greeting"] == "Welcome to the shop!"

    file = shop / "workflows" / "welcome.json"
    workflow = json.loads(file.read_text())
    workflow["nodes"]["welcome_back"]["config"]["members"]["greeting"] = "Back so soon?"
    write(file, workflow)
    soon(lambda: run()["response"]["greeting"] == "Back so soon?")
    path = [
        run["path"] for run in run()["debugging"]["execution"]["page-view"] if run["workflow"] == "welcome"
    ]
    assert path == [["is_new", "greet", "welcome_back"]]
    assert server.stop() == 0


def test_dev_answers_debugging_where_serve_does_not(start: Starts, shop: Path, tmp_path: Path) -> None:
    body = {
        "source": {"id": "shop-web"},
        "session": {"id": "s"},
        "events": [{"type": "page-view"}],
        "options": {"debugger": True},
    }
    serving = start(shop, tmp_path / "other")
    status, headers, answer = serving.request("POST", "/track", json.dumps(body).encode())
    assert (status, headers["x-debugger"]) == (200, "refused")
    assert "debugging" not in json.loads(answer)
    _, answered = start(shop, command="dev").post(body)
    assert answered["debugging"]["events"]["saved"] == 1


def test_a_broken_edit_is_refused_aloud_and_mended(start: Starts, tmp_path: Path) -> None:
    path = write_workspace(tmp_path / "edited", hello=greeting("one"), other=greeting("never"))
    (path / "workflows" / "other.json").unlink()
    server = start(path)
    file = path / "workflows" / "hello.json"
    assert ask(server) == "one"

    write(file, greeting("two"))
    soon(lambda: ask(server) == "two")

    for broken, place in (
        ("{", "workflows/hello.json"),
        (greeting("{{ no_such_name }}"), "workflows/hello.json"),
        ({"on": {"event": ["greet"]}, "nodes": {"x": {"plugin": "respnd"}}}, "workflows/hello.json"),
    ):
        write(file, broken)
        soon(lambda: bool(problems(server)))
        assert [each["file"] for each in problems(server)] == [place]
        assert ask(server) == "two"
        status, _, body = server.request("GET", "/readyz")
        assert status == 200
        assert b"hello" not in body
        refused = server.said("workspace_file_refused")[-1]
        assert re.fullmatch(rf"{re.escape(place)}:\d+:\d+", refused["file"])
        assert place in refused["problem"]
        write(file, greeting("two"))
        soon(lambda: not problems(server))

    write(file, greeting("three"))
    soon(lambda: ask(server) == "three")
    # New files come, and files that are gone go.
    write(path / "workflows" / "late.json", greeting("late") | {"order": 10})
    soon(lambda: ask(server) == "late")
    (path / "workflows" / "late.json").unlink()
    soon(lambda: ask(server) == "three")


def test_what_replaces_a_file_whole_is_seen(start: Starts, tmp_path: Path) -> None:
    path = write_workspace(tmp_path / "edited", hello=greeting("one"))
    server = start(path)
    new = tmp_path / "new.json"
    write(new, greeting("two"))
    new.replace(path / "workflows" / "hello.json")
    soon(lambda: ask(server) == "two")
    # As a checkout does it: the folder changes whole.
    other = write_workspace(tmp_path / "checkout", hello=greeting("six"))
    (path / "workflows").rename(tmp_path / "aside")
    (other / "workflows").rename(path / "workflows")
    soon(lambda: ask(server) == "six")


def test_events_go_on_while_files_change(start: Starts, tmp_path: Path) -> None:
    path = write_workspace(tmp_path / "edited", hello=greeting("0"))
    server = start(path)
    file = path / "workflows" / "hello.json"
    seen, began = set[str](), time.monotonic()
    # For four seconds; longer where the machine is too busy to look at files.
    for number in range(100_000):
        seconds = time.monotonic() - began
        if seconds > 40 or (seconds > 4 and len(seen) > 1):
            break
        if number % 20 == 0:
            write(file, "{" if number % 40 else greeting(str(number)))
        seen.add(ask(server))
    assert None not in seen
    assert len(seen) > 1


def test_sources_follow_their_file_and_keep_the_last_good_one(start: Starts, tmp_path: Path) -> None:
    path = write_workspace(tmp_path / "edited", hello=greeting("one"))
    server = start(path)
    file = path / "sources.json"
    whole = json.loads(file.read_text())
    for broken in ("{", json.dumps({"sources": []}), json.dumps({"sources": {"web": {"enabeld": False}}})):
        file.write_text(broken)
        soon(lambda: bool(problems(server)))
        assert problems(server)[0]["file"] == "sources.json"
        assert ask(server) == "one"
        file.write_text(json.dumps(whole))
        soon(lambda: not problems(server))
    file.unlink()
    soon(lambda: bool(problems(server)))
    assert ask(server) == "one"
    whole["sources"]["web"]["enabled"] = False
    file.write_text(json.dumps(whole))
    soon(lambda: server.post(track_body("greet"))[0] == 401)


def test_a_start_with_broken_workflows_runs_the_good_ones(start: Starts, tmp_path: Path) -> None:
    path = write_workspace(tmp_path / "edited", hello=greeting("one"))
    folder = path / "workflows"
    write(folder / "cut.json", '{"on": ')
    write(folder / "typo.json", {"on": {"event": ["greet"]}, "nodes": {"x": {"plugin": "respnd"}}})
    (folder / "noise.json").write_bytes(bytes(range(256)))
    (path / "segments.json").write_text("[]")
    server = start(path)
    assert ask(server) == "one"
    said = server.text()
    for file in ("workflows/cut.json", "workflows/typo.json", "workflows/noise.json", "segments.json"):
        assert file in said
    assert "Did you mean 'respond'" in said
    assert {each["file"] for each in problems(server)} >= {
        "workflows/cut.json",
        "workflows/typo.json",
        "workflows/noise.json",
    }
    assert TOKEN not in said


@pytest.mark.parametrize(
    ("sources", "says"),
    [
        (None, "there is no sources.json"),
        ("", "sources.json"),
        ("{", "sources.json"),
        ("[]", "sources.json"),
        ('{"sources": {"web": 1}}', "sources.json"),
    ],
)
def test_no_start_without_sources_that_can_be_read(
    launch: Starts, workspace: Path, tmp_path: Path, sources: str | None, says: str
) -> None:
    if sources is None:
        (workspace / "sources.json").unlink()
    else:
        (workspace / "sources.json").write_text(sources)
    server = launch()
    assert server.wait_until_ended() == 3
    assert says in server.text()
    assert "Traceback" not in server.text()
    assert not (tmp_path / "data" / "headrace.db").exists()


def test_no_start_on_a_port_that_is_taken(start: Starts, launch: Starts, tmp_path: Path) -> None:
    server = start()
    other = launch(data=tmp_path / "other", port=server.port)
    assert other.wait_until_ended() == 3
    assert "in use" in other.text()
    assert server.post(track_body("count"))[0] == 200
