"""Replays stored events: dry against what happened then, or for good."""

import json
import shlex
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import typer
from pydantic import TypeAdapter, ValidationError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from headrace.compose import environment_secrets, make_engine
from headrace.engine.files.workflow_test import Mock
from headrace.engine.files.workspace import Workspace
from headrace.engine.model import Doc
from headrace.engine.replay.answers import Answer
from headrace.engine.replay.apply import Applied, apply_failed, apply_workflow
from headrace.engine.replay.dry import DryReplay, Summary
from headrace.engine.replay.past import REFUSED, Gathered, event_of, find_event, find_failed, gather
from headrace.engine.replay.scratch import Scratch
from headrace.engine.settings import Settings
from headrace.engine.store.looking import Looking, open_looking
from headrace.engine.store.protocol import Query
from headrace.engine.suggest import did_you_mean
from headrace.engine.testing.dry import read_clock
from headrace.engine.workflow import Workflow
from headrace.replayed import (
    applied_doc,
    narrowed,
    plan,
    replayed_doc,
    show_applied,
    show_counts,
    show_heading,
    show_replayed,
    show_summary,
    summary_doc,
)
from headrace.terminal import OK, PROBLEMS, WRONG_USE, err, fail

WORDS = ("type", "source", "profile", "session", "from", "to", "failed")
"""What a `--query` may say."""

ANY = "any"


@dataclass(frozen=True)
class Wanted:
    """Which events: the one of an id, or those that a query finds; `code` narrows failed ones."""

    id: str | None
    query: Query
    code: str = ""


@dataclass(frozen=True)
class How:
    """For good or dry, of which workflows, whether to ask before, and how to answer."""

    apply: bool
    changed: bool
    is_sure: bool
    as_json: bool


@dataclass(frozen=True)
class Asked:
    """What a replay was asked to do."""

    workspace: Workspace
    settings: Settings
    wanted: Wanted
    limit: int
    workflows: tuple[str, ...]
    mocks: Mapping[tuple[str, str], Answer]
    how: How


def read_wanted(id: str | None, words: list[str], tenant: str, source: str | None) -> Wanted:
    """Return which events are meant. Raises ValueError for what is no `NAME=VALUE`, or a name that is not known."""
    code, given = "", dict[str, Any]()
    for word in (each for text in words for each in shlex.split(text)):
        name, sign, value = word.partition("=")
        if name not in WORDS or not sign or not value:
            hint = did_you_mean(name, WORDS) if sign else "It is NAME=VALUE, such as type=purchase-order."
            raise ValueError(f"--query {word}: {hint}")
        if name == "failed":
            given["kind"], code = "failed", "" if value == ANY else value
        elif name in ("from", "to"):
            given["since" if name == "from" else "until"] = _time(name, value)
        else:
            given[name] = value
    return Wanted(id, replace(Query("event", tenant=tenant, source=source), **given), code)


def _time(name: str, value: str) -> Any:
    try:
        return read_clock(value)
    except ValueError:
        raise ValueError(
            f"--query {name}={value}: is not a day or time such as 2026-01-15T12:00:00Z"
        ) from None


def read_mocks(value: Doc, workspace: Workspace) -> dict[tuple[str, str], Answer]:
    """Return the answers of `{"NODE" or "WORKFLOW.NODE": {"port", "result"}}`. Raises ValueError."""
    nodes = {(each.name, node.name): node for each in workspace.workflows for node in each.nodes}
    known = {node for _, node in nodes} | {f"{workflow}.{node}" for workflow, node in nodes}
    try:
        mocks = TypeAdapter(dict[str, Mock]).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"--mocks: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    made = {}
    for name, mock in mocks.items():
        if name not in known:
            raise ValueError(f"--mocks: there is no node '{name}'. {did_you_mean(name, known)}")
        workflow, _, node = name.rpartition(".")
        fitting = [each for key, each in nodes.items() if key[1] == node and workflow in ("", key[0])]
        if all(mock.port not in each.ports for each in fitting):
            ports = sorted({port for each in fitting for port in each.ports})
            raise ValueError(f"--mocks: {name} has no port '{mock.port}'. {did_you_mean(mock.port, ports)}")
        made[workflow, node] = Answer(mock.port, mock.result)
    return made


async def replay_dry(asked: Asked) -> int:
    """Replay dry, print each event that differs and a summary; returns the exit code. Raises StoreError."""
    summary, alone = Summary(), asked.wanted.id is not None
    look = await open_looking(
        asked.settings.store, data=asked.settings.data, dedup_days=asked.settings.dedup_days
    )
    try:
        async with _gathered(look, asked) as (scratch, found):
            job = DryReplay(
                asked.workspace, environment_secrets(), asked.settings, look, scratch, asked.mocks
            )
            if not asked.how.as_json:
                show_heading(asked.workspace, found, asked.limit)
            with progress() as bar:
                task = bar.add_task("replaying", total=found.events)
                for event in scratch.oldest_first():
                    done = narrowed(await job.run(event), asked.workflows, changed=asked.how.changed)
                    summary.add(done)
                    if asked.how.as_json:
                        write(replayed_doc(done))
                    elif alone or done.differs:
                        show_replayed(done, whole=alone)
                    bar.advance(task)
    finally:
        await look.close()
    if asked.how.as_json:
        write(summary_doc(summary, found))
    else:
        show_summary(summary, found)
    return PROBLEMS if summary.differ else OK


async def replay_applied(asked: Asked) -> int:
    """Replay for good, after asking; returns the exit code. Raises StoreError; what was applied stays so."""
    engine = make_engine(asked.settings)
    try:
        async with _gathered(engine.store, asked) as (scratch, found):
            workflows = chosen_workflows(asked, scratch)
            facts = engine.store.describe()
            place = str(facts.get("path") or facts.get("place"))
            text = plan(scratch.oldest_first(), found, workflows, place)
            if found.events and not asked.how.is_sure and not _confirmed(text):
                fail("Nothing was done.")
                return WRONG_USE
            counts: dict[str, int] = {}
            with progress() as bar:
                task = bar.add_task("applying", total=found.events)
                for event in scratch.oldest_first():
                    for applied in await _apply(engine.parts, asked.workspace, workflows, event):
                        counts[applied.outcome] = counts.get(applied.outcome, 0) + 1
                        if asked.how.as_json:
                            write(applied_doc(applied))
                        else:
                            show_applied(applied)
                    bar.advance(task)
    finally:
        await engine.stop()
    if asked.how.as_json:
        write({"summary": {"events": found.events, **counts}})
    else:
        show_counts(found, counts)
    return PROBLEMS if counts.keys() & {"refused", "left out"} else OK


async def _apply(parts: Any, workspace: Workspace, workflows: list[Workflow], event: Doc) -> list[Applied]:
    if REFUSED in event:
        return [await apply_failed(parts, workspace, event)]
    return [await apply_workflow(parts, workspace, workflow, event) for workflow in workflows]


def chosen_workflows(asked: Asked, scratch: Scratch) -> list[Workflow]:
    """Return the workflows that were named. Raises ValueError when there are none, or too many, for the events."""
    refused = asked.wanted.query.kind == "failed" or any(REFUSED in event for event in scratch.oldest_first())
    if refused and asked.workflows:
        raise ValueError("A failed event was never processed: it goes through all workflows, so name none.")
    if not refused and not asked.workflows:
        raise ValueError(
            "--apply runs a workflow for events that were processed already: say which one, by --workflow NAME. "
            "Only you know which of them may run again."
        )
    return [each for each in asked.workspace.workflows if each.name in asked.workflows]


@asynccontextmanager
async def _gathered(look: Looking, asked: Asked) -> AsyncIterator[tuple[Scratch, Gathered]]:
    """Give the events, found and put in order. Raises ValueError when there is no event of the id."""
    scratch, wanted = Scratch(), asked.wanted
    try:
        if wanted.id is not None:
            event = await the_event(look, wanted.id, wanted.query, asked.workspace)
            if "replay_of" in event:
                raise ValueError(f"{wanted.id} is a replay, of the event with the key {event['replay_of']}.")
            scratch.push([event])
            yield scratch, Gathered(events=1)
            return
        with err().status("looking …") as status:
            found = await gather(
                look,
                wanted.query,
                scratch,
                asked.limit,
                wanted.code,
                lambda n: status.update(f"{n:,} found …"),
            )
        yield scratch, found
    finally:
        scratch.close()


async def the_event(look: Looking, id: str, query: Query, workspace: Workspace | None) -> Doc:
    """Return the event of an id, else the newest failed one of it. Raises ValueError when there is none, or several."""
    tenant, source = query.tenant, query.source
    sources = [
        name for name, each in (workspace.sources if workspace else {}).items() if each.tenant == tenant
    ]
    found = await find_event(look, tenant, id, sources, source)
    if len(found) > 1:
        names = ", ".join(sorted(doc["source"] for doc in found))
        raise ValueError(
            f"Several sources sent an event with the id {id}: {names}. Say which: --source NAME."
        )
    if found:
        return found[0]
    failed = await find_failed(look, tenant, id, source)
    if failed:
        return event_of(failed[0])
    raise ValueError(
        f"There is no event {id}, and no failed one. An event that was not to be saved is not kept."
    )


def _confirmed(text: str) -> bool:
    err().print(text)
    if not sys.stdin.isatty():
        fail("There is nobody to ask: say --yes.")
        return False
    return typer.confirm("Go on?", err=True)


def progress() -> Progress:
    """Return a bar, shown where a person looks."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = err()
    # What goes to a file must not be caught by the bar.
    redirect = sys.stdout.isatty()
    return Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True, redirect_stdout=redirect
    )


def write(doc: Doc) -> None:
    """Write one line of JSON."""
    typer.echo(json.dumps(doc, ensure_ascii=False, default=str))
