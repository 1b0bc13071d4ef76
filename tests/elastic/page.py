"""Runs what docs/elasticsearch.md shows, against a node."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.doc_blocks import ROOT

PAGE = ROOT / "docs/elasticsearch.md"
PREFIX = "headrace-"


def section(heading: str) -> str:
    """Return the text below a heading, up to the next of any kind."""
    found, inside, fenced = list[str](), False, False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        fenced ^= line.startswith("```")
        if line.startswith("#") and not fenced:
            inside = line.lstrip("# ") == heading
        elif inside:
            found.append(line)
    assert found, f"{PAGE.name}: no section {heading!r}"
    return "\n".join(found)


def shell_blocks(heading: str) -> Iterator[str]:
    """Yield the commands of a section, a block at a time."""
    for part in section(heading).split("```sh\n")[1:]:
        yield part.partition("```")[0]


def run(block: str, cwd: Path, url: str, prefix: str, **replaced: str) -> str:
    """Run a block with the names of a store of the tests, and return what it writes. Raises AssertionError."""
    for shown, real in {f"{PREFIX}*": f"{prefix}-*", **replaced}.items():
        block = block.replace(shown, real)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=cwd,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "ES": url, "HOME": str(cwd)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout
