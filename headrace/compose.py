"""Puts the parts together: settings, store, workspace, engine."""

import os
from functools import partial
from pathlib import Path

from headrace.engine.catalog import find_plugins
from headrace.engine.crash import set_crash_point
from headrace.engine.engine import Engine
from headrace.engine.files.source import Secrets
from headrace.engine.files.watch import LiveWorkspace
from headrace.engine.metrics import Metrics
from headrace.engine.secrets import secret
from headrace.engine.settings import Settings
from headrace.engine.store.open import open_store
from headrace.engine.variables import variable


def environment_secrets() -> Secrets:
    """Return what looks a named secret up in the environment of this process."""
    return partial(secret, environ=os.environ)


def load_settings(workspace: Path | None = None, **overrides: object) -> Settings:
    """Return the settings of this process; what the command line said wins. Raises SettingsError."""
    return Settings.load(os.environ, workspace=workspace, **overrides)


def chosen_workspaces(paths: list[Path] | None) -> list[Path]:
    """Return the folders that a command names, else that of HEADRACE_WORKSPACE, else this one."""
    return paths or [Path(os.environ.get(variable("workspace")) or ".")]


def make_engine(settings: Settings) -> Engine:
    """Load the workspace and open the store that the settings name; the caller stops the engine.

    The workspace comes first: with one that cannot be used, no database is made. Raises WorkspaceError, StoreRefused.
    """
    set_crash_point(settings.crash_at)
    secrets, metrics = environment_secrets(), Metrics()

    def note_load(live: LiveWorkspace) -> None:
        metrics.reload("refused" if live.refused else "live")

    live = LiveWorkspace(settings.workspace, find_plugins(), secrets, note_load)
    store = open_store(
        settings.store,
        data=settings.data,
        dedup_days=settings.dedup_days,
        request_seconds=settings.request_deadline_seconds,
        note_commit=metrics.commit,
    )
    return Engine(settings, store, live, secrets, metrics=metrics)


def no_workspace(path: Path) -> str:
    """Return what to do when a folder is no workspace; names those that are near."""
    place = "This folder" if path == Path() else f"{path}"
    lines = [f"{place} is no workspace: there is no sources.json in it."]
    near = sorted(file.parent for pattern in ("*", "*/*") for file in path.glob(f"{pattern}/sources.json"))
    if near:
        lines.append(f"  There is:       {', '.join(str(folder) for folder in near[:5])}")
    lines.append("  Name one:       headrace dev DIR, or set HEADRACE_WORKSPACE")
    lines.append("  Or write one:   headrace init DIR")
    return "\n".join(lines)
