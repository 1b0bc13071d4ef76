"""What the tests of the command line share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from headrace.cli import app

Result = Any
Call = Callable[..., Result]


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings from outside, and a working folder that is empty."""
    for name in list(os.environ):
        if name.startswith("HEADRACE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def call() -> Call:
    """Return what runs a command in this process: `call("lint", "shop")`."""
    runner = CliRunner()
    return lambda *words, **more: runner.invoke(app, [str(word) for word in words], **more)


@pytest.fixture
def shop(tmp_path: Path, call: Call) -> Path:
    """Return the workspace that `headrace init` writes."""
    assert call("init", "shop").exit_code == 0
    return tmp_path / "shop"
