"""Opens a store for a command, and prints what was found."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import typer
from rich.console import RenderableType

from headrace.compose import load_settings
from headrace.engine.errors import BusyError, StoreError, StoreRefused
from headrace.engine.model import Doc
from headrace.engine.store.open import open_store, sqlite_path
from headrace.engine.store.protocol import AskKind, Store
from headrace.terminal import CANNOT_START, WRONG_USE, fail, out

T = TypeVar("T")


def print_found(found: Any, as_json: bool, draw: Callable[[], RenderableType]) -> None:
    """Print what was found, as JSON or drawn."""
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        out().print(draw())


def there(found: T | None, what: str) -> T:
    """Return what was found; ends the command when there is no such thing."""
    if found is None:
        fail(f"There is no {what}.")
        raise typer.Exit(WRONG_USE)
    return found


def the_one(url: str | None, data: Path | None, kind: AskKind, key: str, tenant: str, what: str) -> Doc:
    """Return a document by its key; ends the command when there is none, or the store cannot be used."""

    async def read(store: Store) -> Doc | None:
        return await store.get(kind, key)

    found = working(url, data, read)
    return there(found if found is None or found["tenant"] == tenant else None, f"{what} {key}")


def working(url: str | None, data: Path | None, work: Callable[[Store], Awaitable[T]]) -> T:
    """Do something with the store; ends the command when it cannot be used."""
    settings = load_settings(data=data, store=url)

    async def run() -> T:
        async with opened(settings.store, settings.data) as store:
            return await work(store)

    try:
        return asyncio.run(run())
    except (StoreError, BusyError) as error:
        fail(error)
        raise typer.Exit(CANNOT_START) from None


@asynccontextmanager
async def opened(url: str, data: Path) -> AsyncIterator[Store]:
    """Open a store that is there."""
    path = sqlite_path(url, data)
    if path is not None and not path.is_file():
        raise StoreRefused(f"There is no database {path}.")
    store = open_store(url, data=data)
    try:
        yield store
    finally:
        await store.close()
