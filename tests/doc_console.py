"""Runs the console examples of a page: real commands, a real server, shown output."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tests.doc_blocks import ROOT, Block

SHOWN_ADDRESS = "http://127.0.0.1:8080"
ANY = "…"
KEY = "let-me-in"
_ASSIGNED = re.compile(r"(?:export )?([A-Z_]+)=(.*)", re.DOTALL)
_RELOADS = re.compile(r'headrace_workspace_reloads_total\{outcome="\w+"\} (\d+)')


class Console:
    """A folder with a copy of the example shop, variables, and a server when one is needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workspace = "workflows/shop"
        shutil.copytree(ROOT / "workflows", folder / "workflows")
        scripts = Path(sys.executable).parent
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        self.env = kept | {
            "PATH": f"{scripts}:{kept['PATH']}",
            "COLUMNS": "120",
            "NO_COLOR": "1",
            "SHOP_BACKEND_KEY": KEY,
        }
        self.port = _free_port()
        self.server: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        if self.server is not None:
            self.server.terminate()
            self.server.wait(timeout=30)
            self.server = None

    def serve(self) -> None:
        """Start the server and wait until it is ready."""
        log = (self.folder / "server.log").open("ab")
        self.server = subprocess.Popen(
            ["headrace", "dev", self.workspace, "--port", str(self.port)],
            cwd=self.folder,
            env=self.env,
            stdout=log,
            stderr=log,
        )
        log.close()
        _until(lambda: self._get("/readyz") is not None, self.folder / "server.log")

    def obey(self, directive: Block) -> None:
        """Do what `<!-- test: … -->` says."""
        if directive.words[1] == "serve":
            self.close()
            self.workspace = directive.text.strip()
        elif directive.words[1] == "replace":
            file, old, new = (part.strip() for part in directive.text.split(" | "))
            self._replace(self.folder / self.workspace / file, old, new)
        else:
            raise AssertionError(f"{directive.place}: no such directive: {directive.words[1]}")

    def _replace(self, path: Path, old: str, new: str) -> None:
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{path}: {old!r} is not there"
        before = self._reloads()
        path.write_text(text.replace(old, new), encoding="utf-8")
        if self.server is not None:
            _until(lambda: self._reloads() > before, self.folder / "server.log", seconds=20)

    def _reloads(self) -> int:
        return sum(map(int, _RELOADS.findall(self._get("/metrics") or "")))

    def _get(self, path: str) -> str | None:
        if self.server is None:
            return None
        try:
            with urlopen(self.address + path, timeout=20) as answer:  # noqa: S310 - our own server
                return str(answer.read().decode())
        except OSError:
            return None

    def run(self, block: Block) -> None:
        """Run the commands of a block, each with the output that is shown."""
        for command, shown in commands(block.text):
            assigned = _ASSIGNED.fullmatch(command)
            if assigned:
                self.env[assigned[1]] = self._output(f'{command}; printf %s "${assigned[1]}"')
                continue
            output = self._output(command)
            differences = compare_output(shown, output)
            assert not differences, f"{block.place}: $ {command}\n{differences}\n--- output\n{output}"

    def _output(self, command: str) -> str:
        if "8080" in command or "data/" in command:
            if self.server is None:
                self.serve()
            command = command.replace(SHOWN_ADDRESS, self.address)
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        return done.stdout.decode().replace(self.address, SHOWN_ADDRESS)


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until(holds: Any, log: Path, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"it took too long:\n{log.read_text(encoding='utf-8')}"
        time.sleep(0.05)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block (behind `$ `, lines that end in `\\` go on) and the output shown for each."""
    command, shown, goes_on = "", list[str](), False
    for line in text.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, "\n".join(shown)
            command, shown, goes_on = line[2:], [], line.endswith("\\")
        elif goes_on:
            command, goes_on = f"{command}\n{line}", line.endswith("\\")
        else:
            shown.append(line)
    if command:
        yield command, "\n".join(shown)


def compare_output(shown: str, output: str) -> str:
    """Say how an output differs from what a page shows; `…` in it stands for anything."""
    try:
        expected = json.loads(shown)
    except ValueError:
        wanted = ".*".join(re.escape(part) for part in _lines(shown).split(ANY))
        return "" if re.fullmatch(wanted, _lines(output), re.DOTALL) else f"shown is\n{shown}"
    try:
        actual = json.loads(output)
    except ValueError:
        return "shown is JSON, and the output is not"
    return "\n".join(differences(expected, actual))


def _lines(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def differences(expected: Any, actual: Any, place: str = "$") -> Iterator[str]:
    """Say where JSON differs from what is shown: a text `…` is any value, a member `…` any other members."""
    if isinstance(expected, str) and ANY in expected:
        wanted = ".*".join(re.escape(part) for part in expected.split(ANY))
        if expected != ANY and not re.fullmatch(wanted, str(actual), re.DOTALL):
            yield f"{place}: {actual!r} is not {expected!r}"
    elif isinstance(expected, dict) and isinstance(actual, dict):
        names = expected.keys() - {ANY}
        yield from (f"{place}.{name} is missing" for name in sorted(names - actual.keys()))
        if ANY not in expected:
            yield from (f"{place}.{name} is not shown" for name in sorted(actual.keys() - names))
        for name in names & actual.keys():
            yield from differences(expected[name], actual[name], f"{place}.{name}")
    elif isinstance(expected, list) and isinstance(actual, list):
        cut = expected[-1:] == [ANY]
        wanted_items = expected[:-1] if cut else expected
        if len(actual) < len(wanted_items) or (not cut and len(actual) > len(wanted_items)):
            yield f"{place}: {len(actual)} items, shown are {len(wanted_items)}"
        for index, (one, other) in enumerate(zip(wanted_items, actual, strict=False)):
            yield from differences(one, other, f"{place}[{index}]")
    elif json.dumps(expected) != json.dumps(actual):
        yield f"{place}: {actual!r} is not {expected!r}"
