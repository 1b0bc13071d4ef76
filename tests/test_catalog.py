"""The catalog: built-in plugins, those of other packages, and broken ones."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from headrace.engine.catalog import BUILT_IN, find_plugins
from headrace.engine.plugin import Out, Plugin, Step

ROOT = Path(__file__).parent.parent
PACKAGE = Path(__file__).parent / "third_party"


class Nothing(Plugin[Any]):
    """Do nothing."""

    def run(self, step: Step) -> Out:
        return Out("done", step.name)


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, "headrace.plugins")


def test_built_in_plugins_have_their_files_name() -> None:
    catalog = find_plugins(())
    files = {file.stem for file in (ROOT / "plugins").glob("*.py")} - {"__init__"}
    assert set(catalog) == files
    assert catalog.problems == ()
    for name, info in catalog.items():
        assert info.name == name
        assert info.origin == BUILT_IN
        assert info.summary.endswith(".")


def test_plugins_come_in_the_order_of_names() -> None:
    names = list(find_plugins(()))
    assert names == sorted(names)


def test_a_class_of_another_package() -> None:
    info = find_plugins([entry("nothing", f"{__name__}:Nothing")])["nothing"]
    assert info.plugin is sys.modules[__name__].Nothing
    assert info.origin == __name__.partition(":")[0]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("lost", "no_such_module", "ModuleNotFoundError"),
        ("lost", f"{__name__}:Lost", "AttributeError"),
        ("number", f"{__name__}:ROOT", "is neither a plugin nor a module with one"),
        ("Loud!", f"{__name__}:Nothing", "cannot be a plugin's name"),
        ("empty", "headrace.engine.suggest", "has 0 plugins"),
    ],
)
def test_what_cannot_be_used_is_a_problem(name: str, value: str, says: str) -> None:
    catalog = find_plugins([entry(name, value)])
    assert name not in catalog
    assert "branch" in catalog
    (problem,) = catalog.problems
    assert problem.code == "P01"
    assert says in problem.message


def test_the_built_in_plugin_wins() -> None:
    catalog = find_plugins([entry("branch", f"{__name__}:Nothing")])
    assert catalog["branch"].origin == BUILT_IN
    assert [problem.code for problem in catalog.problems] == ["P02"]


SHOWS = """
import asyncio, json, sys
from pathlib import Path
from headrace.engine.catalog import find_plugins
from headrace.engine.testing.example import run_example
from headrace.engine.files.lint import lint
from headrace.engine.files.reference import plugin_reference
from headrace.engine.files.schemas import workflow_schema
catalog = find_plugins()
info = catalog["shout"]
runs = [asyncio.run(run_example(info.plugin, example)) for example in info.examples]
print(json.dumps({
    "summary": info.summary,
    "origin": info.origin,
    "others": sorted(name for name, one in catalog.items() if one.origin != "built in"),
    "problems": sorted(problem.code for problem in catalog.problems),
    "lint": [str(one) for one in lint(Path(sys.argv[1]), catalog, lambda name: None) if "workflows" in one.file],
    "in_schema": "shout.config" in workflow_schema(catalog)["$defs"],
    "in_docs": "It comes with the package `headrace-shout`." in plugin_reference(catalog),
    "differences": [run.differences(example) for run, example in zip(runs, info.examples)],
}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the package and install it into a folder of its own, without network."""
    folder = tmp_path_factory.mktemp("third_party")
    shutil.copytree(PACKAGE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        *(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-deps"),
        *("--no-build-isolation", "--python", sys.executable, "--target", str(folder / "site")),
        str(folder / "source"),
    ]
    subprocess.run(command, check=True, timeout=60)
    return folder / "site"


def test_a_package_of_its_own(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "workflows").mkdir()
    (tmp_path / "sources.json").write_text('{"sources": {"shop": {}}}')
    node = {"plugin": "shout", "config": {"text": "hello", "mark": 2}, "then": {"lowd": ["a"]}}
    workflow = {"on": {"event": ["order"]}, "nodes": {"a": node}}
    (tmp_path / "workflows/loud.json").write_text(json.dumps(workflow))
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join((str(installed), str(ROOT)))}
    done = subprocess.run(
        [sys.executable, "-c", SHOWS, str(tmp_path)],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found = json.loads(done.stdout)
    assert found["summary"] == "Write a text in capital letters."
    assert found["origin"] == "headrace-shout"
    assert found["others"] == ["shout", "shout_twice"]
    assert found["problems"] == ["P01", "P02"]
    assert found["in_schema"]
    assert found["in_docs"]
    assert found["differences"] == [[], []]
    assert found["lint"] == [
        "workflows/loud.json: nodes.a.config.mark: there is no member 'mark' here. Did you mean 'marks'? [M01]",
        "workflows/loud.json: nodes.a.then.lowd: shout has no port 'lowd'. Ports: loud, silent, error. [W04]",
        "workflows/loud.json: nodes.a.then.lowd[0]: the node leads to itself. Take the edge out. [W09]",
    ]
