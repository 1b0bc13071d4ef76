"""The command `run`: one event through a workspace, dry."""

import asyncio
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.api.logs import set_up_logs
from headrace.commands.lint import show_problems
from headrace.compose import environment_secrets, load_settings, no_workspace
from headrace.drawing import draw
from headrace.engine.catalog import find_plugins
from headrace.engine.draft import without_own
from headrace.engine.errors import InputError
from headrace.engine.files.json_file import MAX_BYTES, parse_json_file
from headrace.engine.files.source import Source
from headrace.engine.files.workspace import Workspace, load_workspace
from headrace.engine.language.past import OWN_TYPES
from headrace.engine.model import Doc, EventInput, utc_now
from headrace.engine.suggest import did_you_mean
from headrace.engine.testing.dry import Dry, Processed, read_clock
from headrace.engine.timers.waiting import shown_timer
from headrace.engine.trace import WHY_NOT, full_trace
from headrace.engine.view import plain
from headrace.sample import sample_event
from headrace.terminal import PROBLEMS, WRONG_USE, err, fail, out

app = typer.Typer(add_completion=False)

EVENT_MEMBERS = ("type", "properties", "context", "id", "time", "version")


Folder = Annotated[
    str | None,
    typer.Argument(metavar="WORKSPACE", help="The workspace folder. Default: HEADRACE_WORKSPACE, else here."),
]
EventFile = Annotated[
    str | None,
    typer.Argument(metavar="EVENT.json", help="The file with the event, or - for standard input."),
]
SourceName = Annotated[
    str | None, typer.Option("--source", help="The source of the event. Default: the first public one.")
]
EventType = Annotated[str | None, typer.Option("--type", help="The type of the event, if it names none.")]
Profile = Annotated[Path | None, typer.Option(help="The profile before, as JSON. Default: a new one.")]
Session = Annotated[Path | None, typer.Option(help="The session before, as JSON. Default: a new one.")]
NoProfile = Annotated[bool, typer.Option("--no-profile", help="The event comes without a profile.")]
Time = Annotated[
    str | None, typer.Option(metavar="TIME", help="The time, as 2026-01-15T12:00:00Z. Default: now.")
]


@app.command()
def run(
    workspace: Folder = None,
    event: EventFile = None,
    source: SourceName = None,
    kind: EventType = None,
    profile: Profile = None,
    session: Session = None,
    profile_less: NoProfile = False,
    at: Time = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON.")] = False,
) -> None:
    """Run one event through a workspace, and draw what happened.

    Nothing is kept and nothing is sent: no store, no network. Without an event, the workspace's tests give one.
    Ends with 1 when the event was refused or a node failed.

    Example: echo '{"type": "page-view"}' | headrace run workflows/shop -
    """
    if event is None and workspace is not None and (workspace == "-" or Path(workspace).is_file()):
        workspace, event = None, workspace
    files = open_workspace(workspace)
    given = read_event(files, event, kind)
    chosen = choose_source(files, source)
    settings = load_settings()
    set_up_logs(settings.log_format, settings.log_level)
    dry = Dry(files, environment_secrets(), read_time(at), settings)
    dry.tracing = True
    try:
        set_up(dry, chosen, None if profile_less else {} if profile is None else read_object(profile))
        if session is not None:
            visit(dry, chosen, read_object(session))
    except ValueError as error:
        raise wrong_use(error) from None
    try:
        processed = asyncio.run(dry.send(chosen, given))
    except InputError as error:
        raise wrong_use(error) from None
    show(tell(processed, dry), as_json=as_json)
    if processed.errors or any(each.error for each in processed.runs):
        raise typer.Exit(PROBLEMS)


def set_up(dry: Dry, source: Source, profile: Doc | None) -> None:
    """Say who the visitor is: None for nobody, {} for somebody new."""
    dry.begin(source.tenant, profile, is_new=not profile)


def visit(dry: Dry, source: Source, session: Doc) -> None:
    """Say which visit it is."""
    session = {"profile": dry.profile, **session}
    session.setdefault("id", dry.session)
    dry.keep_session(source, session)
    dry.session = session["id"]


def show(told: Doc, *, as_json: bool) -> None:
    """Write what happened, as JSON or as a tree."""
    if as_json:
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        out().print(draw(told))


def wrong_use(reason: object) -> typer.Exit:
    """Say what is wrong with the command, and return what ends it."""
    fail(reason)
    return typer.Exit(WRONG_USE)


def open_workspace(path: str | None) -> Workspace:
    """Load the workspace, and write what is wrong with it to standard error."""
    folder = load_settings(Path(path) if path else None).workspace
    if not (folder / "sources.json").exists():
        raise wrong_use(no_workspace(folder))
    found = load_workspace(folder, find_plugins(), environment_secrets())
    show_problems(folder, [problem for problem in found.problems if problem.is_error], err())
    return found


def read_event(workspace: Workspace, name: str | None, kind: str | None) -> EventInput:
    """Return the event of a file or of standard input; else one of that type, or a sample."""
    if name is not None:
        data = sys.stdin.buffer.read(MAX_BYTES + 1) if name == "-" else None
        value = read_object(Path(name), data)
    elif kind is not None:
        value = {}
    else:
        sample = sample_event(workspace)
        if sample is None:
            raise wrong_use('Say which event: a file, or --type. An event is {"type": …, "properties": {…}}.')
        value = {"type": sample.type, "properties": sample.properties}
        err().print(f"[dim]No event was named; this one is from the workspace's tests: {sample.type}[/]")
    if isinstance(value.get("events"), list) and len(value["events"]) == 1:
        # The body of a request to /track.
        value = value["events"][0]
    return event_of(value, kind)


def event_of(value: Doc, kind: str | None) -> EventInput:
    """Return the event that an object describes; ends the command when it describes none."""
    name = kind or value.get("type")
    unknown = value.keys() - set(EVENT_MEMBERS)
    if unknown:
        word = min(unknown)
        raise wrong_use(f"The event has a member '{word}'. {did_you_mean(word, EVENT_MEMBERS)}")
    parts = [value.get("properties") or {}, value.get("context") or {}]
    if not isinstance(name, str) or not name or not all(isinstance(part, dict) for part in parts):
        raise wrong_use('An event is {"type": "page-view", "properties": {…}, "context": {…}}.')
    return EventInput(
        name, parts[0], parts[1], value.get("id"), value.get("time"), version=value.get("version")
    )


def read_object(path: Path, data: bytes | None = None) -> dict[str, Any]:
    """Return the JSON object of a file; ends the command when there is none."""
    try:
        if data is None:
            # A pipe of the shell is good; what never ends is read to the limit.
            with path.open("rb") as stream:
                data = stream.read(MAX_BYTES + 1)
        file = parse_json_file(data, str(path))
    except OSError as error:
        raise wrong_use(f"{path}: {error.strerror}") from None
    if file.value is None:
        raise wrong_use(file.problems[0])
    return file.value


def choose_source(workspace: Workspace, name: str | None) -> Source:
    """Return the named source, else the first public one, else the first."""
    if name is not None and name not in workspace.sources:
        raise wrong_use(f"There is no source '{name}'. {did_you_mean(name, workspace.sources)}")
    if not workspace.sources:
        raise wrong_use("sources.json declares no source.")
    first = next((each for each in workspace.sources.values() if each.is_public), None)
    return workspace.sources[name] if name else first or next(iter(workspace.sources.values()))


def read_time(text: str | None) -> datetime:
    """Return the time that a text means, or now."""
    try:
        return utc_now() if text is None else read_clock(text)
    except ValueError:
        raise wrong_use(f"--at {text}: is not a time such as 2026-01-15T12:00:00Z") from None


def about(event: Doc) -> str:
    """Return which segment or goal an internal event is of, or ""."""
    properties = event["properties"]
    return str(properties.get("segment") or properties.get("goal")) if event["type"] in OWN_TYPES else ""


def tell(processed: Processed, dry: Dry) -> Doc:
    """Return everything that happened as one document."""
    events = []
    for passage in processed.passages:
        runs = [full_trace(each, passage.event["id"]) for each in passage.runs]
        skipped = [{"workflow": workflow.name, "skipped": WHY_NOT[why]} for workflow, why in passage.skipped]
        events.append(
            {
                "type": passage.event["type"],
                "id": passage.event["id"],
                "source": passage.event["source"],
                "about": about(passage.event),
                "goals": passage.event.get("goals", []),
                "runs": runs,
                "skipped": skipped,
                "log": passage.log,
                "response": plain(passage.response),
            }
        )
    last = processed.passages[-1].draft if processed.passages else None
    return {
        "events": events,
        "errors": [
            {"event": each.event, "code": each.code, "message": each.message} for each in processed.errors
        ],
        "profile": without_own(last.profile) if last and last.profile else None,
        "session": last.session if last else None,
        "effects": dry.store.effects,
        "timers": [shown_timer(timer) for timer in dry.store.timers],
    }
