"""Commands that write files: init, schema, docs, new, config, plugins."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.cli import COMMANDS
from headrace.engine.language.library import FUNCTIONS
from headrace.engine.settings import Settings
from headrace.pages import PAGES, commands_page, functions_page

from .conftest import Call

ROOT = Path(__file__).resolve().parents[2]


def test_init_writes_a_workspace_that_is_clean_and_tested(call: Call, shop: Path) -> None:
    assert call("lint", "--strict", "shop").exit_code == 0
    result = call("test", "shop", "--fail-under", "100")
    assert result.exit_code == 0, result.output
    schemas = {file.name for file in (shop / "schema").iterdir()}
    for file in (*shop.glob("*.json"), *shop.glob("workflows/*.json")):
        named = json.loads(file.read_text())["$schema"]
        assert Path(named).name in schemas, f"{file.name} names {named}"


def test_init_writes_over_nothing(call: Call, shop: Path) -> None:
    result = call("init", shop)
    assert result.exit_code == 2
    assert "not empty" in result.output


def test_init_takes_an_empty_folder(call: Call, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert call("init", "empty").exit_code == 0


def test_schema_writes_the_schemas_again(call: Call, shop: Path) -> None:
    (shop / "schema" / "workflow.json").unlink()
    result = call("schema", "shop/")
    assert result.exit_code == 0
    assert (shop / "schema" / "workflow.json").exists()


def test_docs_writes_pages_and_finds_old_ones(call: Call, tmp_path: Path) -> None:
    assert call("docs").exit_code == 0
    assert {file.name for file in (tmp_path / "docs").iterdir()} == set(PAGES)
    assert call("docs", "--check").exit_code == 0
    (tmp_path / "docs" / "cli.md").write_text("old")
    result = call("docs", "--check")
    assert result.exit_code == 1
    assert "docs/cli.md" in result.output
    assert "headrace docs" in result.output
    assert "problems.md" not in result.output
    assert (tmp_path / "docs" / "cli.md").read_text() == "old"


def test_the_pages_in_the_repository_are_as_the_program_says(call: Call) -> None:
    result = call("docs", "--check", "--folder", ROOT / "docs")
    assert result.exit_code == 0, result.output


def test_the_page_of_the_command_line_names_every_command() -> None:
    page = commands_page()
    assert all(f"headrace {name}" in page for name in COMMANDS)
    assert "| 130 |" in page


def test_every_function_is_in_a_group() -> None:
    page = functions_page()
    assert all(f"`{each.signature}`" in page.replace("\\|", "|") for each in FUNCTIONS.values())


@pytest.mark.parametrize("package", [False, True])
def test_a_new_plugin_works(package: bool, call: Call, tmp_path: Path) -> None:
    result = call("new", "plugin", "keep_note", *(["--package"] if package else []))
    assert result.exit_code == 0, result.output
    again = call("new", "plugin", "keep_note", *(["--package"] if package else []))
    assert again.exit_code == 2
    if not package:
        test = "import asyncio\nfrom keep_note import KeepNote\n"
        test += "from headrace.engine.testing.example import run_example\n"
        test += "for each in KeepNote.examples:\n    print(asyncio.run(run_example(KeepNote, each)).differences(each))"
        command = [sys.executable, "-c", test]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert set(done.stdout.split()) == {"[]"}
        return
    root = tmp_path / "headrace-keep-note"
    # As where only pytest is installed: plugins of this environment have wishes of their own.
    without = [word for name in ("cacheprovider", "asyncio") for word in ("-p", f"no:{name}")]
    check = [sys.executable, "-m", "pytest", "-q", *without, "."]
    done = subprocess.run(
        check, cwd=root, capture_output=True, text=True, check=False, env={"PYTHONPATH": "."}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    types = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--cache-dir",
        str(tmp_path / "mypy"),
        "headrace_keep_note",
    ]
    typed = subprocess.run(
        types, cwd=root, capture_output=True, text=True, check=False, env={"MYPYPATH": str(ROOT)}
    )
    assert typed.returncode == 0, typed.stdout


def test_config_shows_every_setting_and_where_it_came_from(call: Call) -> None:
    result = call("config", "--json", env={"HEADRACE_PORT": "9000", "HEADRACE_ADMIN_TOKEN": "hush-hush"})
    assert result.exit_code == 0
    rows = {row["variable"]: row for row in json.loads(result.output)}
    assert len(rows) == len(Settings.model_fields)
    assert rows["HEADRACE_PORT"]["value"] == "9000"
    assert rows["HEADRACE_PORT"]["source"] == "environment HEADRACE_PORT"
    assert rows["HEADRACE_DATA"]["source"] == "default"
    assert "hush-hush" not in result.output


def test_config_warns_of_what_is_no_setting(call: Call) -> None:
    result = call("config", env={"HEADRACE_PROT": "1"})
    assert result.exit_code == 0
    assert "Did you mean 'HEADRACE_PORT'?" in result.output
    assert call("config", env={"HEADRACE_PORT": "x"}).exit_code == 3


def test_plugins_lists_all_and_shows_one(call: Call) -> None:
    assert "add_segment" in call("plugins").output
    page = call("plugins", "branch").output
    assert "## branch" in page
    assert "| `true` |" in page
    rows = json.loads(call("plugins", "branch", "--json").output)
    assert rows[0]["ports"].keys() == {"true", "false"}
