"""Every example, link and name in our pages is right."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from headrace.cli import COMMANDS, Commands
from headrace.engine.catalog import find_plugins
from headrace.engine.files.lint import lint
from headrace.engine.files.problem import CODES
from headrace.engine.language.expression import MISSING, compile_expression
from headrace.engine.language.scope import Scope
from headrace.engine.language.template import compile_template
from headrace.engine.language.values import plain
from headrace.engine.settings import Settings
from headrace.engine.testing.example import run_example
from headrace.engine.variables import variable
from tests.doc_blocks import (
    GENERATED,
    PAGES,
    ROOT,
    Block,
    Row,
    anchors,
    blocks,
    code_spans,
    links,
    prose,
    rows,
)
from tests.doc_console import Console, compare_output
from tests.identity.test_races import TIMES_BY
from tests.live.test_effects import ROUNDS_BY
from tests.live.test_node_killed import KILLS_BY
from tests.parts.elasticsearch import NAMED_BY

SHOP = ROOT / "workflows" / "shop"
HAND_WRITTEN = [page for page in PAGES if page.name not in GENERATED]
BLOCKS = [block for page in HAND_WRITTEN for block in blocks(page)]
JSON_KINDS = (
    "example",
    "workflow",
    "nodes",
    "node",
    "test",
    "sources",
    "event_types",
    "segments",
    "goals",
    "scope",
    "trace",
)
PLAIN_KINDS = ("sh", "toml", "text", "js", "html", "ini", "nginx", "promql", "yaml", "mermaid")
MADE_UP = "score_order"
"""The plugin that the page about writing one writes."""
FINE = {"S02", "S03"}
"""Warnings that the shop has on purpose."""


def of_kind(*words: str) -> list[Any]:
    found = [block for block in BLOCKS if block.words[: len(words)] == words]
    return [pytest.param(block, id=block.place) for block in found]


def names(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# What stands in blocks


def test_every_block_says_what_it_is() -> None:
    known = {*PLAIN_KINDS, "console", "python", "test", "json", *(f"json {kind}" for kind in JSON_KINDS)}
    for block in BLOCKS:
        kind = " ".join(block.words[: 2 if block.words[:1] == ("json",) else 1])
        assert kind in known, f"{block.place}: {kind or 'it says nothing'}"


@pytest.mark.parametrize("block", of_kind("json"))
def test_json_is_json(block: Block) -> None:
    text = f"{{{block.text}}}" if block.words[1:] == ("node",) else block.text
    json.loads(text)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHOP, tmp_path / "shop"))


def problems(workspace: Path) -> list[str]:
    found = lint(workspace, find_plugins(), lambda _: "x")
    return [str(problem) for problem in found if problem.code not in FINE]


def with_nodes(nodes: Any) -> dict[str, Any]:
    return {"on": {"event": ["purchase-order"]}, "nodes": nodes}


@pytest.mark.parametrize(
    "block", of_kind("json", "workflow") + of_kind("json", "nodes") + of_kind("json", "node")
)
def test_workflows_are_clean(block: Block, shop: Path) -> None:
    kind = block.words[1]
    value = json.loads(f"{{{block.text}}}" if kind == "node" else block.text)
    name = block.words[2] if len(block.words) > 2 else "from-the-docs"
    if kind == "workflow" and (SHOP / f"workflows/{name}.json").exists():
        theirs = json.loads((SHOP / f"workflows/{name}.json").read_text(encoding="utf-8"))
        assert value == theirs, f"{block.place}: not the file that the shop has"
    workflow = value if kind == "workflow" else with_nodes(value)
    (shop / f"workflows/{name}.json").write_text(json.dumps(workflow), encoding="utf-8")
    assert problems(shop) == []


@pytest.mark.parametrize("block", of_kind("json", "example"))
def test_the_example_is_what_init_writes(block: Block) -> None:
    written = ROOT / "headrace/starter/workflows/big_order.json"
    assert json.loads(block.text) == json.loads(written.read_text(encoding="utf-8"))


@pytest.mark.parametrize("block", of_kind("json", "test"))
def test_tests_are_clean(block: Block, shop: Path) -> None:
    _, _, name = block.words
    own = [each for each in BLOCKS if each.page == block.page and each.words == ("json", "workflow", name)]
    if own:
        (shop / f"workflows/{name}.json").write_text(own[0].text, encoding="utf-8")
    value = json.loads(block.text)
    tests = value if "tests" in value else {"tests": [value]}
    (shop / f"workflows/{name}.test.json").write_text(json.dumps(tests), encoding="utf-8")
    assert problems(shop) == []


@pytest.mark.parametrize(
    "block",
    of_kind("json", "sources")
    + of_kind("json", "event_types")
    + of_kind("json", "segments")
    + of_kind("json", "goals"),
)
def test_declarations_are_clean(block: Block, shop: Path) -> None:
    shutil.rmtree(shop / "workflows")
    for name in ("segments", "goals"):
        (shop / f"{name}.json").unlink()
    (shop / f"{block.words[1]}.json").write_text(block.text, encoding="utf-8")
    assert problems(shop) == []


@pytest.mark.parametrize("block", of_kind("python"))
async def test_plugins_run_their_examples(block: Block) -> None:
    if block.words in (("python", "tests"), ("python", "receiver")):
        compile(block.text, block.place, "exec")
        return
    namespace: dict[str, Any] = {"__name__": "from_the_docs"}
    exec(compile(block.text, block.place, "exec"), namespace)  # noqa: S102 - our own page
    (plugin,) = (each for each in namespace.values() if getattr(each, "examples", ()))
    for example in plugin.examples:
        assert (await run_example(plugin, example)).differences(example) == []


# Tables of expressions and templates


def scope_of(page: Path) -> Scope:
    (block,) = (each for each in blocks(page) if each.words == ("json", "scope"))
    data = json.loads(block.text)
    now = datetime.fromisoformat(data["now"]).astimezone(UTC)
    return Scope(data["event"], data["profile"], None, {"id": "shop-web"}, now)


def evaluated(text: str, scope: Scope) -> Any:
    value = compile_expression(text).evaluate(scope)
    return None if value is MISSING else plain(value)


def rendered(text: str, scope: Scope) -> Any:
    return compile_template(text).render(scope)


Evaluate = Callable[[str, Scope], Any]
TABLES: list[tuple[str, Evaluate]] = [("expression", evaluated), ("template", rendered)]
EXPRESSIONS = [
    pytest.param(row, evaluate, id=f"{row.page.name}:{row.line}")
    for page in HAND_WRITTEN
    for header, evaluate in TABLES
    for row in rows(page, header)
]


@pytest.mark.parametrize(("row", "evaluate"), EXPRESSIONS)
def test_expressions_give_what_is_shown(row: Row, evaluate: Evaluate) -> None:
    text, shown = row.cells[0].strip("`"), row.cells[1]
    expected = None if shown == "nothing" else json.loads(shown.strip("`"))
    value = evaluate(text, scope_of(row.page))
    assert json.dumps(value) == json.dumps(expected)


# Commands, run


CONSOLES = [page for page in HAND_WRITTEN if any(block.words == ("console",) for block in blocks(page))]


@pytest.mark.parametrize("page", CONSOLES, ids=names)
def test_console_examples_are_true(page: Path, tmp_path: Path) -> None:
    console = Console(tmp_path)
    try:
        for block in blocks(page):
            if block.words[0] == "test":
                console.obey(block)
            elif block.words == ("console",):
                console.run(block)
    finally:
        console.close()


@pytest.mark.parametrize(
    ("shown", "output", "same"),
    [
        ('{"a": "…", "b": [1]}', '{"b":[1],"a":{"c":2}}', True),
        ('{"a": 1, "…": "…"}', '{"a":1,"b":2}', True),
        ('{"a": 1}', '{"a":1,"b":2}', False),
        ('{"a": 1}', '{"a":true}', False),
        ('{"a": [1]}', '{"a":[1,2]}', False),
        ('{"a": [1, "…"]}', '{"a":[1,2]}', True),
        ('{"a": 1}', "no JSON", False),
        ("2 passed in …", "2 passed in 0.1 s", True),
        ("2 passed in …", "1 passed in 0.1 s", False),
    ],
)
def test_shown_output_is_compared(shown: str, output: str, same: bool) -> None:
    assert (not compare_output(shown, output)) is same


# Names and links


def test_links_lead_somewhere() -> None:
    broken = []
    for page in PAGES:
        for line, target in links(page):
            if "://" in target:
                continue
            file, _, anchor = target.partition("#")
            path = (page.parent / file).resolve() if file else page
            if not path.exists() or (anchor and anchor not in anchors(path)):
                broken.append(f"{names(page)}:{line}: {target}")
    assert broken == []


def test_every_page_is_in_the_index() -> None:
    index = {target for _, target in links(ROOT / "docs/README.md")}
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"} <= index


def command_lines() -> Iterator[tuple[str, str]]:
    """Every `headrace …` and `./scripts/…` in our pages, with its place."""
    for page in HAND_WRITTEN:
        for line, span in code_spans(page):
            yield f"{names(page)}:{line}", span
    for block in BLOCKS:
        if block.words in (("sh",), ("console",)):
            for command in block.text.splitlines():
                yield block.place, command.removeprefix("$ ")


def test_commands_and_their_options_exist() -> None:
    group = Commands(name="headrace")
    for place, line in command_lines():
        for words in re.findall(r"(?:^|[\s;&|(])headrace((?: +[^\s;&|)#]+)+)", f" {line}"):
            check_command(place, words.split(), group)


def check_command(place: str, words: list[str], group: Commands) -> None:
    name = words[0]
    if name.startswith("-"):
        assert name in ("--version", "--help"), f"{place}: headrace {name}"
        return
    if not re.fullmatch(r"[a-z]+", name):
        return
    assert name in COMMANDS, f"{place}: headrace {name}"
    command: Any = group.get_command(None, name)
    for word in words[1:]:
        if word in getattr(command, "commands", {}):
            command = command.commands[word]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    for word in words[1:]:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, f"{place}: headrace {name} has no {word}"


def test_scripts_exist() -> None:
    for place, line in command_lines():
        for script in re.findall(r"\./(scripts/\w+)", line):
            assert (ROOT / script).exists(), f"{place}: {script}"


def test_settings_exist() -> None:
    # What the tests themselves read stands beside the settings of the program.
    known = {variable(name) for name in Settings.model_fields} | {NAMED_BY, KILLS_BY, ROUNDS_BY, TIMES_BY}
    for page in PAGES:
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            for name in re.findall(r"HEADRACE_[A-Z_]+[A-Z]", line):
                assert name in known or name.removesuffix("_FILE") in known, f"{names(page)}:{number}: {name}"


def test_problem_codes_exist() -> None:
    for page in PAGES:
        for number, line in enumerate(prose(page), 1):
            for code in re.findall(r"`([FMNWXSETP]\d\d)`", line):
                assert code in CODES, f"{names(page)}:{number}: {code}"


def test_plugins_that_are_named_exist() -> None:
    plugins = find_plugins()
    for page in PAGES:
        for line, span in code_spans(page):
            found = re.fullmatch(r"headrace plugins (\w+)", span)
            assert not found or found[1] in {*plugins, MADE_UP}, f"{names(page)}:{line}: {span}"
