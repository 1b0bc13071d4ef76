"""What happened to an event, as the read API answers it."""

from typing import Annotated

import msgspec
from msgspec import Meta

from headrace.engine.model import Doc


class Named(msgspec.Struct):
    """An event that another one is about."""

    id: str
    key: str
    type: str


class Identity(msgspec.Struct, omit_defaults=True):
    """Whose an event is, and how it came to that profile.

    `by`: `session`, `client`, `claim`, `new`, `chosen`, `workflow`, `cause`, `engine`; null without a profile.
    """

    profile: str | None
    session: str | None
    by: str | None
    why: Annotated[str, Meta(description="The same in words.")]
    asked: Annotated[str, Meta(description="An id that the client named and did not get.")] = ""
    merged: Annotated[
        list[Doc],
        Meta(description="What became of the profile since: `profile`, merged `into` which, `at`, `by`."),
    ] = []


class Story(msgspec.Struct):
    """What happened to an event. One that was refused has no `event`, and `refused` says why."""

    event: Annotated[Doc | None, Meta(description="The event without its runs.")]
    door: Annotated[str | None, Meta(description="The way that it came in by.")]
    profile: str | None
    session: str | None
    identity: Identity | None
    caused_by: Annotated[Named | None, Meta(description="The event that an internal one comes from.")]
    runs: Annotated[
        list[Doc],
        Meta(
            description="Workflow, version, the ports taken, error; `trace` node by node where one was kept."
        ),
    ]
    skipped: Annotated[list[Doc], Meta(description="Workflows that did not run, and `why`.")]
    effects: Annotated[list[Doc], Meta(description="Deferred calls and mails, each with its `attempts`.")]
    timers: Annotated[list[Doc], Meta(description="Runs that wait, or waited.")]
    caused: Annotated[list[Named], Meta(description="Internal events that it caused.")]
    refused: Annotated[list[Doc], Meta(description="What was refused under its id, with the `reasons`.")]
    replay_of: Annotated[str | None, Meta(description="The key of the event that this is a replay of.")]
    replays: Annotated[list[Doc], Meta(description="Replays of it that were applied.")]
