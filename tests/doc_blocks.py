"""Reads our Markdown: blocks of code, tables, links, and what tests are told."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
GENERATED = {f"{name}.md" for name in ("plugins", "functions", "http", "settings", "cli", "problems")}
"""Pages in docs/ that `headrace docs` writes."""
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"(`{3,})(.*)")
_DIRECTIVE = re.compile(r"<!-- test: (.*) -->")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """A fenced block, or a line `<!-- test: … -->`, whose words are then `words` behind "test"."""

    page: Path
    line: int
    words: tuple[str, ...]
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


class Row(NamedTuple):
    """A row of a table, without its header."""

    page: Path
    line: int
    cells: tuple[str, ...]


def blocks(page: Path) -> Iterator[Block]:
    """Every block of code and every directive of a page, in order."""
    fence, start, body = "", 0, list[str]()
    words: tuple[str, ...] = ()
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        found = _FENCE.fullmatch(line.strip())
        if fence:
            if found and found[1] == fence and not found[2]:
                yield Block(page, start, words, "\n".join(body) + "\n")
                fence = ""
            else:
                body.append(line)
        elif found:
            fence, words, start, body = found[1], tuple(found[2].split()), number, []
        elif directive := _DIRECTIVE.fullmatch(line.strip()):
            yield Block(
                page, number, ("test", *directive[1].split(" ", 1)[:1]), directive[1].partition(" ")[2]
            )


def prose(page: Path) -> list[str]:
    """The lines of a page; those within blocks are empty, so that numbers stay."""
    lines, inside = [], False
    for line in page.read_text(encoding="utf-8").splitlines():
        fence = line.strip().startswith("```")
        lines.append("" if inside or fence else line)
        inside ^= fence
    return lines


def rows(page: Path, first_header: str) -> Iterator[Row]:
    """The rows of all tables of a page whose first column has this header."""
    inside = False
    for number, line in enumerate(prose(page), 1):
        if not line.startswith("|"):
            inside = False
            continue
        cells = tuple(cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1])
        if cells[0] == first_header:
            inside = True
        elif inside and not set(cells[0]) <= set("-: "):
            yield Row(page, number, cells)


def links(page: Path) -> Iterator[tuple[int, str]]:
    """Every link of a page with its line."""
    for number, line in enumerate(prose(page), 1):
        for target in _LINK.findall(re.sub(r"`[^`]*`", "", line)):
            yield number, target


def anchors(page: Path) -> set[str]:
    """The names by which the headings of a page can be linked to."""
    found = set()
    for line in prose(page):
        if line.startswith("#"):
            text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", line.lstrip("# ")).lower()
            found.add(re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-"))
    return found


def code_spans(page: Path) -> Iterator[tuple[int, str]]:
    """Every `code` in the prose of a page, with its line."""
    for number, line in enumerate(prose(page), 1):
        for span in re.findall(r"`([^`]+)`", line):
            yield number, span
