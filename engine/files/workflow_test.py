"""The model of a test file: `workflows/NAME.test.json`."""

from typing import Any, Literal

from pydantic import Field

from headrace.engine.trigger import FileModel

Json = dict[str, Any]


class TestEvent(FileModel):
    """An event of a test, or a step forward in time."""

    __test__ = False

    type: str | None = Field(None, min_length=1, max_length=128, description="Its type.")
    properties: Json = Field({}, description="Its properties.")
    context: Json = Field({}, description="Its context.")
    id: str | None = Field(None, description="Its id, when the test needs one.")
    time: str | None = Field(None, description="The client's time; default: the clock of the test.")
    version: str | None = Field(None, description="The version of its type that it names.")
    advance: str | None = Field(
        None, description="Instead of an event: move the clock on.", examples=["1h", "30d"]
    )


class Mock(FileModel):
    """What a node does instead of its work."""

    port: str = Field(description="The port that it leaves by.")
    result: Any = Field(None, description="Its result, as `nodes.NAME`.")


class Sent(FileModel):
    """An effect that must be there."""

    node: str | None = Field(None, description="The node that made it.")
    request: Json = Field({}, description="Members that its request must have.")


class Made(FileModel):
    """An internal event that must have been emitted."""

    type: str = Field(description="Its type.")
    properties: Json = Field({}, description="Properties that it must have.")


class Expect(FileModel):
    """What must come out; a member that is not there is not looked at.

    Objects may have more members than are named here, and one that is expected to be null may be absent; lists must
    have as many items, in the same order; plain values must be equal. A node that fails although neither `errors` nor
    `ports` says so, and with no edge at its port `error`, fails the test.
    """

    path: list[str] | None = Field(
        None, description="The nodes that ran for the last event, in order; []: none."
    )
    ports: dict[str, str] = Field({}, description="The port that a node left by, by node.")
    skipped: Literal["source", "when", "consent", "disabled", "event"] | None = Field(
        None, description="Why the workflow did not take the last event."
    )
    profile: Json | None = Field(None, description="Members of the profile; null: there is none.")
    session: Json | None = Field(None, description="Members of the session; null: there is none.")
    response: Json | None = Field(None, description="Members of the answer's response.")
    nodes: Json = Field({}, description="Results, by node.")
    errors: dict[str, str] = Field({}, description="A part of a node's error, by node.")
    effects: list[Sent] | None = Field(None, description="The effects, in order.")
    emitted: list[Made] | None = Field(None, description="The events that were emitted, in order.")
    started: list[str] | None = Field(None, description="The workflows that were started, in order.")
    waits: list[str] | None = Field(None, description="The nodes that still wait at the end.")
    logs: list[str] | None = Field(None, description="Lines that nodes logged, in order.")


class TestCase(FileModel):
    """One test of a workflow."""

    __test__ = False

    name: str = Field(min_length=1, description="What it shows.")
    about: str = Field("", description="Why it is there.")
    source: str | None = Field(None, description="The source of the events; default: the first that fits.")
    at: str | None = Field(None, description="The clock at the start.", examples=["2026-01-15T12:00:00Z"])
    profile: Json | None = Field(None, description="The profile before; null: none. Left out: a new one.")
    session: Json | None = Field(
        None, description="The session before; null: none, as at /collect. Left out: a new one."
    )
    profiles: list[Json] = Field(
        [], description="Other stored profiles, which a node may load; each has an id."
    )
    sessions: list[Json] = Field([], description="Other stored sessions, which a node may attach or look up.")
    past: list[Json] = Field(
        [],
        description="Earlier events of the profile, newest first; without `time.happened` a minute apart.",
    )
    events: list[TestEvent] = Field(min_length=1, description="The events, in order.")
    mocks: dict[str, Mock] = Field({}, description="Nodes that are not run, with their answers.")
    secrets: dict[str, str] = Field({}, description="Values of secrets.")
    expect: Expect = Field(description="What must come out.")


class TestFile(FileModel):
    """All tests of the workflow whose name the file has."""

    __test__ = False

    schema_: str | None = Field(
        None, alias="$schema", description="The JSON Schema, for completion in an editor."
    )
    tests: list[TestCase] = Field(min_length=1, description="The tests.")
