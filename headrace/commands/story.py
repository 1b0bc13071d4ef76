"""The command `story`: what happened to an event."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from headrace.commands.run import wrong_use
from headrace.commands.store import Data, Url
from headrace.compose import load_settings
from headrace.engine.catalog import find_plugins
from headrace.engine.errors import BusyError, InputError, StoreError, WorkspaceError
from headrace.engine.files.workspace import Workspace, load_workspace
from headrace.engine.model import Doc
from headrace.engine.replay.past import REFUSED
from headrace.engine.settings import Settings
from headrace.engine.store.looking import open_looking
from headrace.engine.store.protocol import Query
from headrace.engine.story import story, story_of_refused
from headrace.replaying import the_event
from headrace.stored import print_found
from headrace.telling import told
from headrace.terminal import CANNOT_START, fail

app = typer.Typer(add_completion=False)

EventId = Annotated[
    str, typer.Argument(metavar="EVENT_ID", help="The event's key, or the id that its client gave it.")
]


@app.command("story")
def tell(
    event: EventId,
    workspace: Annotated[
        Path | None, typer.Option(help="The workspace folder. Default: HEADRACE_WORKSPACE, else here.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="The source of the event, when two used one id.")] = None,
    tenant: Annotated[str, typer.Option(help="Whose event.")] = "main",
    url: Url = None,
    data: Data = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Tell what happened to an event: by which door it came, whose it is and why, which workflows ran and which did
    not, what they changed, what was sent and what came back.

    It reads the store and changes nothing; a server may run meanwhile. The workspace tells which sources there are: an
    event of another one is found too, though not as fast. Ends with 2 when there is no such event.

    Example: headrace story order-1 --workspace workflows/shop
    """
    try:
        settings = load_settings(workspace, data=data, store=url)
        found = asyncio.run(read_story(settings, event, Query("event", tenant=tenant, source=source)))
    except (InputError, ValueError) as error:
        raise wrong_use(error) from None
    except (StoreError, BusyError) as error:
        fail(error)
        raise typer.Exit(CANNOT_START) from None
    print_found(found, as_json, lambda: told(found))


async def read_story(settings: Settings, id: str, query: Query) -> Doc:
    """Return the story of an event, or what is known of one that was refused. Raises ValueError, StoreError."""
    look = await open_looking(settings.store, data=settings.data, dedup_days=settings.dedup_days)
    try:
        event = await the_event(look, id, query, _workspace(settings))
        if REFUSED in event:
            found = await story_of_refused(look, query.tenant, event["id"], query.source)
        else:
            found = await story(look, event["tenant"], event["key"])
        if found is None:
            raise ValueError(f"The event {id} was erased just now.")
        return found
    finally:
        await look.close()


def _workspace(settings: Settings) -> Workspace | None:
    """Return the workspace, or None where there is none that can be read."""
    try:
        return load_workspace(settings.workspace, find_plugins(), lambda name: f"secret {name}")
    except WorkspaceError:
        return None
