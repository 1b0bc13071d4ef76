"""The rules of the house: imports, sizes, words, links, pages."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import headrace

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("engine", "api", "plugins", "headrace")
LINKS = ("engine", "api", "plugins")

MODULE_LINES = 400
FUNCTION_LINES = 40
SHORTER_MODULES = {"engine/run.py": 250, "engine/track.py": 200}
# Named exceptions to the sizes: "engine/x.py" or "engine/x.py:function", each with its reason.
EXCEPTIONS: dict[str, str] = {}

BANNED_WORDS = {
    *(
        "action",
        "flow",
        "spec",
        "bridge",
        "resource",
        "manager",
        "service",
        "helper",
        "util",
        "utils",
        "handler",
    )
}

HTTP_CLIENTS = {
    "httpx",
    "aiohttp",
    "requests",
    "urllib3",
    "urllib.request",
    "http.client",
    "niquests",
    "httpcore",
}
PLUGINS_MAY_IMPORT = {"headrace.engine.plugin", "headrace.engine.model", "headrace.engine.errors"}
NOT_IN_ENGINE = {"starlette", "uvicorn", "typer", "elasticsearch", "elastic_transport", "aiokafka"}
SDK_MODULES = {
    "engine/store/elastic/cluster.py": {"elasticsearch", "elastic_transport"},
    "engine/log/kafka.py": {"aiokafka"},
}
OPENED_BY_URL = {"headrace.engine.store.elastic", "headrace.engine.log.kafka"}


class Module(NamedTuple):
    """One of our files: where it is, its dotted name, its text and tree."""

    path: str
    name: str
    text: str
    tree: ast.Module


class Import(NamedTuple):
    """One import: the module that is imported, the line, and whether it is at the top of its file."""

    target: str
    line: int
    at_top: bool


@cache
def modules(*folders: str) -> tuple[Module, ...]:
    found = []
    for folder in folders or FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = path.relative_to(ROOT)
            if relative.parts[0] == "headrace" and relative.parts[1] in LINKS:
                continue
            dotted = relative.with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
            name = dotted if folder == "headrace" else f"headrace.{dotted}"
            text = path.read_text(encoding="utf-8")
            found.append(Module(relative.as_posix(), name, text, ast.parse(text, str(relative))))
    return tuple(found)


@cache
def names() -> frozenset[str]:
    return frozenset(module.name for module in modules())


def imports(module: Module) -> Iterator[Import]:
    """Every import of a module, those in functions and under TYPE_CHECKING too."""
    top = {id(node) for node in module.tree.body}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, id(node) in top)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(module, node)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                inner = whole in names() or whole in HTTP_CLIENTS
                yield Import(whole if inner else base, node.lineno, id(node) in top)


def absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    is_package = module.path.endswith("__init__.py")
    above = parts[: len(parts) - node.level + is_package]
    return ".".join([*above, *([node.module] if node.module else [])])


def within(target: str, packages: set[str]) -> bool:
    return any(target == package or target.startswith(f"{package}.") for package in packages)


def report(problems: list[str], rule: str) -> None:
    if problems:
        pytest.fail(f"{rule}\n" + "\n".join(f"  {problem}" for problem in problems), pytrace=False)


# Imports point down


def test_imports_point_down() -> None:
    above = {
        "engine": {"headrace.api", "headrace.plugins"},
        "api": {"headrace.plugins"},
    }
    front = {name for name in names() if not within(name, {f"headrace.{link}" for link in LINKS})} - {
        "headrace"
    }
    problems = [
        f"{module.path}:{found.line}: {folder}/ may not import {found.target}"
        for folder, forbidden in above.items()
        for module in modules(folder)
        for found in imports(module)
        if within(found.target, forbidden | front)
    ]
    problems += [
        f"{module.path}:{found.line}: import headrace.{found.target}, or a class exists twice"
        for module in modules()
        for found in imports(module)
        if found.target.split(".")[0] in LINKS
    ]
    report(problems, "Imports point down: headrace -> api -> engine.")


def test_plugins_import_the_contract_only() -> None:
    problems = []
    for module in modules("plugins"):
        for found in imports(module):
            if within(found.target, {"headrace"}) and found.target not in PLUGINS_MAY_IMPORT:
                problems.append(f"{module.path}:{found.line}: imports {found.target}")
            if within(found.target, HTTP_CLIENTS):
                problems.append(f"{module.path}:{found.line}: imports {found.target}; use step.http")
    report(
        problems, f"A plugin imports of ours only {', '.join(sorted(PLUGINS_MAY_IMPORT))}; no HTTP client."
    )


def test_the_engine_imports_no_server_and_no_sdk() -> None:
    problems = [
        f"{module.path}:{found.line}: imports {found.target}"
        for module in modules("engine")
        for found in imports(module)
        if within(found.target, NOT_IN_ENGINE - SDK_MODULES.get(module.path, set()))
    ]
    problems += [
        f"{module.path}:{found.line}: imports {found.target} at the top; do it where its URL is opened"
        for module in modules()
        for found in imports(module)
        if found.at_top and found.target in OPENED_BY_URL
    ]
    report(problems, "engine/ has no HTTP server in it, and an SDK only where its URL is opened.")


# The order inside engine/


def architecture() -> str:
    page = ROOT / "ARCHITECTURE.md"
    if not page.exists():
        pytest.fail("ARCHITECTURE.md is missing", pytrace=False)
    return page.read_text(encoding="utf-8")


def documented_order() -> list[str]:
    """Read the numbered list below `## Order inside engine/`: "1. `errors`, then what it is for"."""
    _, heading, rest = architecture().partition("\n## Order inside engine/\n")
    if not heading:
        pytest.fail("ARCHITECTURE.md has no heading '## Order inside engine/'", pytrace=False)
    section = rest.split("\n## ")[0]
    return re.findall(r"^\d+\. `([a-z0-9_.]+)`", section, re.MULTILINE)


def entry_of(name: str, order: list[str]) -> str | None:
    """Return the longest entry that is the module or a package around it; names are within engine/."""
    return max((entry for entry in order if within(name, {entry})), key=len, default=None)


def test_engine_keeps_the_documented_order() -> None:
    order = documented_order()
    inside = {module.name.removeprefix("headrace.engine."): module for module in modules("engine")}
    inside.pop("headrace.engine")
    problems = [
        f"ARCHITECTURE.md lists `{entry}` twice" for entry in {e for e in order if order.count(e) > 1}
    ]
    problems += [
        f"ARCHITECTURE.md lists `{entry}`, which does not exist" for entry in order if entry not in inside
    ]
    for name, module in inside.items():
        own = entry_of(name, order)
        if own is None:
            problems.append(f"ARCHITECTURE.md does not list `{name}` ({module.path})")
            continue
        for found in imports(module):
            target = found.target.removeprefix("headrace.engine.")
            other = entry_of(target, order) if target in inside else None
            if other and order.index(other) > order.index(own):
                problems.append(
                    f"{module.path}:{found.line}: `{own}` ({order.index(own) + 1}) "
                    f"may not import `{other}` ({order.index(other) + 1})"
                )
    report(problems, "Inside engine/ a module imports only what stands before it in ARCHITECTURE.md.")


# Sizes


def functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_modules_and_functions_are_small() -> None:
    problems, used = [], set()
    for module in modules():
        sizes = {module.path: (len(module.text.splitlines()), SHORTER_MODULES.get(module.path, MODULE_LINES))}
        for node in functions(module):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            sizes[f"{module.path}:{node.name}"] = (lines, FUNCTION_LINES)
        for where, (lines, limit) in sizes.items():
            if lines > limit:
                used.add(where)
                if where not in EXCEPTIONS:
                    problems.append(f"{where}: {lines} lines, {limit} allowed")
    problems += [f"{where}: is no longer too long, drop its exception" for where in EXCEPTIONS.keys() - used]
    report(problems, "Small modules, small functions.")


# Words


def test_every_module_says_what_it_is_for() -> None:
    problems = []
    for module in modules(*FOLDERS, "tests", "bench"):
        first = (ast.get_docstring(module.tree) or "").partition("\n")[0]
        most = 20 if module.path.startswith("tests/") else 12
        if module.text and not 1 <= len(first.split()) <= most:
            problems.append(f"{module.path}: {len(first.split())} words: {first!r}")
    report(problems, "The first line of a module is a docstring of at most 12 words, 20 in tests.")


def words(name: str) -> set[str]:
    """Split snake_case and CamelCase into lower-case words, plurals as singulars too."""
    parts = [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    return {*parts, *(part.removesuffix("s") for part in parts)}


def test_comments_cite_no_page_that_is_not_here() -> None:
    pages = {path for path in tracked() if path.endswith(".md")}
    pages |= {Path(path).name for path in pages} | {Path(path).stem for path in pages}
    cited = re.compile(r"\b(?:docs/[a-z-]+\.md|[A-Z]{4,}\.md|[A-Z]{4,} §)")
    problems = [
        f"{module.path}:{number}: {found}"
        for module in modules(*FOLDERS, "bench")
        for number, line in enumerate(module.text.splitlines(), 1)
        for found in cited.findall(line)
        if found.rstrip(" §") not in pages
    ]
    report(problems, "A page that a comment names is in the repository.")


def test_one_word_for_one_thing() -> None:
    problems = []
    for module in modules(*FOLDERS, "bench"):
        named = [(1, module.path)]
        named += [
            (node.lineno, node.name)
            for node in ast.walk(module.tree)
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        problems += [
            f"{module.path}:{line}: {name} says '{word}'"
            for line, name in named
            for word in sorted(words(name) & BANNED_WORDS)
        ]
    report(problems, "Words that are not used for things of ours.")


# Pages


def test_architecture_names_every_module_and_is_short() -> None:
    page = architecture()
    problems = []
    if (lines := len(page.splitlines())) > 120:
        problems.append(f"it has {lines} lines, 120 allowed")
    quoted = set(re.findall(r"`([^`\s]+)`", page))
    for module in modules("engine", "api"):
        if module.path.endswith("__init__.py"):
            continue
        folder, _, inner = module.path.partition("/")
        dotted = inner.removesuffix(".py").replace("/", ".")
        if not quoted & {module.path, inner, dotted, f"{folder}.{dotted}"}:
            problems.append(f"it does not name `{module.path}`")
    paths = {name for name in quoted if re.fullmatch(r"(engine|api|plugins|headrace)/[\w/]+\.py", name)}
    problems += [
        f"it names `{path}`, which does not exist" for path in sorted(paths) if not (ROOT / path).exists()
    ]
    report(problems, "ARCHITECTURE.md and the tree agree.")


def test_the_changelog_begins_with_this_version() -> None:
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert versions[0] == headrace.__version__


# Files


def tracked() -> list[str]:
    """All files that git has or would take."""
    command = [
        "git",
        "-c",
        "safe.directory=*",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_machine_or_a_registry() -> None:
    hosts = (
        "pypi.org",
        "pythonhosted.org",
        "npmjs.org",
        "npmjs.com",
        "crates.io",
        "ghcr.io",
        "docker.io",
        "quay.io",
    )
    machine = r"(?<![\w.~*-])/(?:root|work|Users/\w+|home/\w+)/"
    pattern = re.compile("|".join([machine, *(rf"\b{re.escape(host)}\b" for host in hosts)]))
    problems = []
    for name in tracked():
        if (ROOT / name).samefile(__file__):
            continue
        text = (ROOT / name).read_bytes().decode("utf-8", "replace")
        problems += [
            f"{name}:{number}: {found.group()}"
            for number, line in enumerate(text.splitlines(), 1)
            if (found := pattern.search(line))
        ]
    report(problems, "No path of one machine and no package registry in a file of ours.")


@pytest.mark.parametrize("name", LINKS)
def test_the_links_lead_to_the_folders_beside(name: str) -> None:
    link = ROOT / "headrace" / name
    assert link.is_symlink(), f"{link} must be a symbolic link (on Windows: git config core.symlinks true)"
    assert link.readlink() == Path("..") / name


def test_there_are_no_other_links() -> None:
    links = {name for name in tracked() if (ROOT / name).is_symlink()}
    assert links == set()


@pytest.mark.parametrize("name", ["env", "serve", "test", "check", "lint", "bench", "lock"])
def test_scripts_can_be_run(name: str) -> None:
    script = ROOT / "scripts" / name
    assert script.stat().st_mode & 0o111, f"chmod +x scripts/{name}"
    if script.read_text(encoding="utf-8").startswith("#!/bin/sh"):
        subprocess.run(["sh", "-n", script], check=True)


def test_ci_calls_the_same_script_as_a_person() -> None:
    lines = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert lines[-1] == "exec ./scripts/test"
