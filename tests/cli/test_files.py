"""Commands that write files: init, schema, docs, new, config, plugins."""

import inspect
import json
import shutil
import subprocess
import sys
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from headrace.cli import COMMANDS
from headrace.engine.catalog import GROUP, find_plugins
from headrace.engine.language.library import FUNCTIONS
from headrace.engine.settings import Settings
from headrace.pages import PAGES, commands_page, functions_page
from tests import test_every_plugin

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


def test_git_keeps_neither_store_nor_token_of_a_new_workspace(shop: Path) -> None:
    run = partial(subprocess.run, cwd=shop, capture_output=True, text=True, check=True)
    run(["git", "init", "--quiet"])
    (shop / "data").mkdir()
    (shop / "data" / "token").touch()
    found = run(["git", "status", "--porcelain", "--untracked-files=all"]).stdout
    assert "data" not in found
    assert "sources.json" in found


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


def run_tool(*words: str, folder: Path, **env: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True, check=False, env=env
    )
    assert done.returncode == 0, done.stdout + done.stderr


async def test_a_new_plugin_keeps_the_contract(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = call("new", "plugin", "keep_note")
    assert result.exit_code == 0, result.output
    assert call("new", "plugin", "keep_note").exit_code == 2
    monkeypatch.syspath_prepend(tmp_path)
    info = find_plugins([EntryPoint("keep_note", "keep_note", GROUP)])["keep_note"]
    # All that is asked of the files in plugins/.
    monkeypatch.setattr(test_every_plugin, "FOLDER", tmp_path)
    givens: list[dict[str, Any]] = [{"info": info}]
    givens += [{"info": info, "example": each} for each in info.examples]
    checked: set[str] = set()
    for name, check in inspect.getmembers(test_every_plugin, inspect.isfunction):
        wanted = set(inspect.signature(check).parameters)
        for given in (each for each in givens if name.startswith("test_") and set(each) == wanted):
            checked.add(name)
            if (waiting := check(**given)) is not None:
                await waiting
    assert {"test_example", "test_hostile_values_end_in_a_port_or_a_node_error"} <= checked


def test_a_new_plugin_is_clean_where_it_belongs(call: Call, tmp_path: Path) -> None:
    assert call("new", "plugin", "keep_note", "--folder", "plugins").exit_code == 0
    # In a folder that looks to ruff as the repository does.
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "headrace").symlink_to(ROOT / "headrace")
    for words in (("check",), ("format", "--check")):
        run_tool("ruff", *words, "--no-cache", "plugins", folder=tmp_path)


def test_a_package_with_a_new_plugin_works(call: Call, tmp_path: Path) -> None:
    result = call("new", "plugin", "keep_note", "--package")
    assert result.exit_code == 0, result.output
    assert call("new", "plugin", "keep_note", "--package").exit_code == 2
    root = tmp_path / "headrace-keep-note"
    # As where only pytest is installed: plugins of this environment have wishes of their own.
    without = [word for name in ("cacheprovider", "asyncio") for word in ("-p", f"no:{name}")]
    run_tool("pytest", "-q", *without, ".", folder=root, PYTHONPATH=".")
    cache = str(tmp_path / "mypy")
    run_tool("mypy", "--strict", "--cache-dir", cache, "headrace_keep_note", folder=root, MYPYPATH=str(ROOT))
    for words in (("check",), ("format", "--check")):
        run_tool("ruff", *words, "--no-cache", ".", folder=root)


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
