"""The command `replay`: stored events against a draft."""

import asyncio
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from headrace.api.logs import set_up_logs
from headrace.commands.lint import show_problems
from headrace.commands.run import read_object, wrong_use
from headrace.commands.store import Data, Url
from headrace.compose import environment_secrets, load_settings, no_workspace
from headrace.engine.catalog import find_plugins
from headrace.engine.errors import BusyError, InputError, StoreError
from headrace.engine.files.workspace import Workspace, load_workspace
from headrace.engine.settings import Settings
from headrace.engine.suggest import did_you_mean
from headrace.replaying import Asked, How, read_mocks, read_wanted, replay_applied, replay_dry
from headrace.terminal import CANNOT_START, INTERRUPTED, err, fail

app = typer.Typer(add_completion=False)

EventId = Annotated[
    str | None, typer.Argument(metavar="EVENT_ID", help="The event's key, or the id that its client gave it.")
]
QueryWords = Annotated[
    list[str] | None,
    typer.Option(
        "--query",
        metavar="NAME=VALUE",
        help="Which events: type, source, profile, session, from, to, or failed=CODE (any: all). May be repeated.",
    ),
]
Draft = Annotated[
    Path | None,
    typer.Option(metavar="DRAFT", help="The workspace to try. Default: HEADRACE_WORKSPACE, else here."),
]
Names = Annotated[
    list[str] | None, typer.Option("--workflow", metavar="NAME", help="Only this one. May be repeated.")
]
Mocks = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help='Answers for nodes that call: {"NODE": {"port": "ok", "result": {}}}.'),
]
Limit = Annotated[int, typer.Option(min=1, metavar="N", help="At most the newest N events.")]
Source = Annotated[str | None, typer.Option(help="The source of the event, when two used one id.")]
Tenant = Annotated[str, typer.Option(help="Whose events.")]
Apply = Annotated[bool, typer.Option("--apply", help="Run them for good, each at most once.")]
Changed = Annotated[
    bool, typer.Option("--changed", help="Only workflows whose file is not as it was when the event came.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before --apply.")]


@app.command()
def replay(
    event: EventId = None,
    query: QueryWords = None,
    workspace: Draft = None,
    workflow: Names = None,
    changed: Changed = False,
    mocks: Mocks = None,
    limit: Limit = 1000,
    source: Source = None,
    tenant: Tenant = "main",
    url: Url = None,
    data: Data = None,
    apply: Apply = False,
    yes: Yes = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line; the last is the summary.")
    ] = False,
) -> None:
    """Run stored events against a draft, and say what differs.

    Dry by default: nothing is written and nothing is called; a server may run meanwhile. Events run in the order in
    which they were received, with their times, as the event that they were. Profile and session are as the store has
    them now, and as the events before left them: how they were then is not kept. A node that calls gets the answer that
    a trace recorded, else that of --mocks, else it leaves by `failed`, or `error`.

    With --apply they run for good, now. Failed events are sent again under their own ids. Of events that were processed
    only the workflows named by --workflow run, each version at most once for an event, however often it is applied.

    Ends with 0 when all came out the same, with 1 when something differs, with 2 when it was used in a wrong way.

    Example: headrace replay --query type=purchase-order --query from=2026-11-01 --workspace draft
    """
    said = Words(event, query or [], workspace, workflow or [], mocks, limit, source, tenant, url, data)
    how = How(apply=apply, changed=changed, is_sure=yes, as_json=as_json)
    raise typer.Exit(run_replay(said, how))


class Words(NamedTuple):
    """What the command line named."""

    event: str | None
    query: list[str]
    workspace: Path | None
    workflows: list[str]
    mocks: Path | None
    limit: int
    source: str | None
    tenant: str
    url: str | None
    data: Path | None


def run_replay(said: Words, how: How) -> int:
    """Replay, and return the exit code; ends the command when it was used in a wrong way, or the store is away."""
    if (said.event is None) == (not said.query):
        raise wrong_use("Say which events: an EVENT_ID, or --query NAME=VALUE.")
    if said.mocks is not None and how.apply:
        raise wrong_use("--mocks are for a dry replay: with --apply nodes make their calls.")
    try:
        asked = what_is_asked(said, how)
        return asyncio.run(replay_applied(asked) if how.apply else replay_dry(asked))
    except (InputError, ValueError) as error:
        raise wrong_use(error) from None
    except (StoreError, BusyError, KeyboardInterrupt) as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        fail("It was interrupted." if interrupted else error)
        raise typer.Exit(INTERRUPTED if interrupted else CANNOT_START) from None


def what_is_asked(said: Words, how: How) -> Asked:
    """Return what the words mean. Raises ValueError for those that mean nothing."""
    settings = load_settings(said.workspace, data=said.data, store=said.url)
    set_up_logs(settings.log_format, settings.log_level)
    wanted = read_wanted(said.event, said.query, said.tenant, said.source)
    files = open_draft(settings, strict=how.apply)
    check_names(files, said.workflows)
    mocks = read_mocks(read_object(said.mocks), files) if said.mocks is not None else {}
    return Asked(files, settings, wanted, said.limit, tuple(said.workflows), mocks, how)


def open_draft(settings: Settings, *, strict: bool) -> Workspace:
    """Load the workspace and write what is wrong with it; with `strict` nothing may be."""
    folder = settings.workspace
    if not (folder / "sources.json").exists():
        raise wrong_use(no_workspace(folder))
    found = load_workspace(folder, find_plugins(), environment_secrets())
    errors = [problem for problem in found.problems if problem.is_error]
    show_problems(folder, errors, err())
    if errors and strict:
        raise wrong_use("A workspace with problems is not applied.")
    return found


def check_names(workspace: Workspace, names: list[str]) -> None:
    """Raise ValueError for a workflow that is not in the workspace."""
    known = [workflow.name for workflow in workspace.workflows]
    for name in names:
        if name not in known:
            raise ValueError(f"--workflow {name}: there is none of that name. {did_you_mean(name, known)}")
