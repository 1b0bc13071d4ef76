"""The command `lint`: forms and exit codes."""

import json
from pathlib import Path

import pytest

from .conftest import Call


@pytest.fixture
def broken(shop: Path) -> Path:
    """Return a workspace with an error in a workflow."""
    file = shop / "workflows" / "big_order.json"
    file.write_text(file.read_text().replace('"add_segment"', '"ad_segment"'))
    return shop


def test_a_problem_says_file_place_what_and_fix(call: Call, broken: Path) -> None:
    result = call("lint", f"{broken.name}/")
    assert result.exit_code == 1
    assert "shop/workflows/big_order.json" in result.output
    assert "W03 nodes.mark.plugin: no plugin 'ad_segment'. Did you mean 'add_segment'?" in result.output
    assert "1 error" in result.output


def test_several_folders_and_folders_of_workspaces(call: Call, broken: Path) -> None:
    assert call("init", "other").exit_code == 0
    assert call("lint", "other").exit_code == 0
    both = call("lint", "other", "shop")
    assert both.exit_code == 1
    assert "other: no problems" in both.output
    assert call("lint", broken.parent).output == both.output.replace(
        "other:", f"{broken.parent}/other:"
    ).replace("shop", f"{broken.parent}/shop")


def test_as_json(call: Call, broken: Path) -> None:
    assert broken.is_dir()
    told = json.loads(call("lint", "shop", "--format", "json").output)
    assert told["errors"] == 1
    (problem,) = told["problems"]
    assert problem["code"] == "W03"
    assert problem["severity"] == "error"
    assert problem["line"] > 1


def test_for_github(call: Call, broken: Path) -> None:
    assert broken.is_dir()
    line = call("lint", "shop", "--format", "github").output.strip()
    assert line.startswith("::error file=shop/workflows/big_order.json,line=")
    assert "[W03]" in line


def test_strict_counts_warnings(call: Call, shop: Path) -> None:
    (shop / "notes.json").write_text("{}")
    assert call("lint", "shop").exit_code == 0
    assert call("lint", "--strict", "shop").exit_code == 1


def test_text_in_brackets_is_no_markup(call: Call, shop: Path) -> None:
    file = shop / "workflows" / "big_order.json"
    file.write_text(file.read_text().replace('"add_segment"', '"[bold]x[/]"'))
    assert "no plugin '[bold]x[/]'" in call("lint", "shop").output
