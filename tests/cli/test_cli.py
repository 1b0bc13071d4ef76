"""The command line as a whole: overview, help, exit codes, imports."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from headrace import __version__
from headrace.cli import COMMANDS, app
from headrace.terminal import EXIT_CODES

from .conftest import Call


def commands() -> list[tuple[str, Any]]:
    """Return every command with its whole name, those of groups too."""
    root: Any = typer.main.get_command(app)
    context = typer.Context(root)
    found = []
    for name in COMMANDS:
        command = root.get_command(context, name)
        inner = getattr(command, "commands", None) or {"": command}
        found += [(f"{name} {below}".strip(), each) for below, each in inner.items()]
    return found


ALL = commands()


def test_alone_it_says_how_to_begin(call: Call) -> None:
    result = call()
    assert result.exit_code == 0
    assert "headrace init shop" in result.output
    assert all(name in result.output for name in COMMANDS)


def test_in_a_workspace_it_says_how_to_go_on(call: Call, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)
    assert "This folder is a workspace" in call().output


def test_version(call: Call) -> None:
    assert call("--version").output == f"headrace {__version__}\n"


@pytest.mark.parametrize(("name", "command"), ALL, ids=[name for name, _ in ALL])
def test_every_command_has_help_and_an_example(name: str, command: Any, call: Call) -> None:
    result = call(*name.split(), "--help")
    assert result.exit_code == 0
    assert f"Example: {'' if name in ('run', 'config') else 'headrace'}" in command.help
    assert f"headrace {name}" in command.help
    for parameter in command.params:
        assert parameter.help, f"{name}: {parameter.name} has no help"


@pytest.mark.parametrize("words", [[], *([*name.split()] for name, _ in ALL)], ids=" ".join)
def test_flags_have_no_value_and_help_breaks_where_the_terminal_does(words: list[str], call: Call) -> None:
    wide = call(*words, "--help", env={"COLUMNS": "300"}).output
    assert "<bool>" not in wide
    command = dict(ALL).get(" ".join(words))
    for paragraph in (command.help or "").split("\n\n") if command else ():
        assert "\n" not in paragraph


GROUPS = ("new", "events", "store", "effects", "timers", "failed", "profiles", "segments")
"""Commands that have commands in them."""


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in GROUPS])
def test_the_overview_says_what_the_help_says(name: str) -> None:
    first = dict(ALL)[name].help.partition("\n")[0].rstrip(".")
    assert COMMANDS[name].rstrip(".").split(":")[0] in first or first in COMMANDS[name]


def test_the_help_tells_the_exit_codes(call: Call) -> None:
    output = " ".join(call("--help").output.split())
    assert all(f"{code} {meaning.split()[0]}" in output for code, meaning in EXIT_CODES.items())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["lnt"], "lint"),
        (["serve", "--prot", "1"], "--port"),
        (["serve", "--port", "many"], "port"),
        (["init"], "FOLDER"),
        (["lint", "nowhere"], "is not a folder"),
        (["test", "nowhere"], "is not a folder"),
        (["events", "import", "nowhere.ndjson"], "is not a file"),
        (["new", "plugin", "Bad-Name"], "small letters"),
        (["new", "plugin", "branch"], "already"),
        (["plugins", "brnch"], "Did you mean 'branch'?"),
        (["schema"], "headrace init DIR"),
        (["run"], "headrace init DIR"),
    ],
)
def test_wrong_use_ends_with_2_and_says_what_is_right(words: list[str], says: str, call: Call) -> None:
    result = call(*words)
    assert result.exit_code == 2, result.output
    assert says.lower() in result.output.lower()
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", ["serve", "dev"])
@pytest.mark.parametrize(
    ("words", "environ", "says"),
    [
        ([], {}, "headrace init DIR"),
        (["nowhere"], {}, "nowhere is no workspace"),
        (["shop"], {"HEADRACE_DEDUP_DAYS": "many"}, "HEADRACE_DEDUP_DAYS=many: must be a whole number"),
        (["shop"], {"HEADRACE_STORE": "sqlite:shop"}, "is a folder"),
        (["shop"], {"HEADRACE_CRASH_AT": "nowhere"}, "no crash point 'nowhere'"),
        (["shop"], {"HEADRACE_HOST": "no.such.host.invalid"}, "HEADRACE_HOST"),
    ],
)
def test_a_server_that_cannot_start_ends_with_3(
    command: str, words: list[str], environ: dict[str, str], says: str, call: Call, shop: Path
) -> None:
    assert shop.is_dir()
    result = call(command, *words, env=environ)
    assert result.exit_code == 3, result.output
    assert says in result.output
    assert "Traceback" not in result.output


def test_a_workspace_without_sources_that_can_be_read_is_refused(call: Call, shop: Path) -> None:
    (shop / "sources.json").write_text("{")
    result = call("serve", "shop")
    assert result.exit_code == 3
    assert "sources.json" in result.output
    assert not Path("data").exists()


@pytest.mark.parametrize("words", [("lint",), ("test",), ("run",), ("schema",)])
def test_the_workspace_may_come_from_the_environment(words: tuple[str, ...], call: Call, shop: Path) -> None:
    result = call(*words, env={"HEADRACE_WORKSPACE": str(shop)})
    assert result.exit_code == 0, result.output


def test_a_near_workspace_is_named(call: Call, shop: Path) -> None:
    assert shop.name in call("dev").output.split("There is:")[1]


@pytest.mark.parametrize(
    ("words", "modules"),
    [(["--version"], ["headrace.engine.plugin", "uvicorn"]), (["lint", "shop"], ["uvicorn", "starlette"])],
)
def test_a_command_imports_what_it_needs(words: list[str], modules: list[str], shop: Path) -> None:
    assert shop.is_dir()
    code = (
        "import sys; from headrace.cli import app\n"
        f"try: app({words!r})\n"
        f"finally: sys.stderr.write(' '.join(name for name in {modules!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_it_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "headrace", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("headrace ")
