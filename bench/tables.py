"""Tables of results, printed and written into RESULTS.md."""

import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"


def spread(values: Sequence[float], digits: int = 0) -> list[str]:
    """Return median, smallest and largest as texts."""
    return [f"{value:,.{digits}f}" for value in (median(values), min(values), max(values))]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def machine() -> str:
    """Return date and machine in one line."""
    name = "unknown processor"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1] for line in info.read_text().splitlines() if "model name" in line]
        name = names[0].strip() if names else name
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} shared vCPU ({name}), "
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()}."
    )


def publish(part: str, text: str, *, write: bool) -> None:
    """Print a part of the results; with `write` put it between its marks in RESULTS.md."""
    text = f"{machine()}\n\n{text}"
    sys.stdout.write(text)
    if not write:
        return
    opening, closing = f"<!-- {part} -->", f"<!-- /{part} -->"
    page = RESULTS.read_text(encoding="utf-8")
    before, found, rest = page.partition(opening)
    _, ended, after = rest.partition(closing)
    if not found or not ended:
        raise SystemExit(f"{RESULTS.name} has no place for it: {opening} … {closing}")
    RESULTS.write_text(f"{before}{opening}\n\n{text}\n{closing}{after}", encoding="utf-8")
