"""Examples of plugins, run without store and network."""

from datetime import timedelta

import pytest
from pydantic import Field

from headrace.engine.draft import Draft
from headrace.engine.model import from_iso
from headrace.engine.plugin import Config, Example, Out, Plugin, Secret, Step, Url
from headrace.engine.testing.example import run_example
from headrace.engine.testing.memory_reads import MemoryReads

NOW = "2026-01-15T12:00:00.000Z"


class AskConfig(Config):
    url: Url = Field(description="Whom to ask.")
    key: Secret = Field(description="The key.")


class Ask(Plugin[AskConfig]):
    uses = {"http"}  # noqa: RUF012 - a constant of the class
    ports = {"ok": "There is an answer."}  # noqa: RUF012

    async def run(self, step: Step) -> Out:
        key = step.value(self.config.key)
        answer = await step.http.request("GET", step.value(self.config.url), headers={"Authorization": key})
        step.set("profile.traits.manager", answer.body["name"])
        step.effect({"method": "POST", "url": "https://crm.example"})
        return Out("ok", {"status": answer.status})


CONFIG = {"url": "https://crm.example/{{ profile.id }}", "key": {"secret": "CRM"}}
GOOD = Example(
    CONFIG,
    "ok",
    mocks=[{"body": {"name": "Kim"}}],
    secrets={"CRM": "k"},
    result={"status": 200},
    changes={"profile.traits.manager": "Kim", "profile.traits.phone": ...},
)


async def test_an_example_with_calls_and_secrets() -> None:
    ran = await run_example(Ask, GOOD)
    assert ran.differences(GOOD) == []
    (effect,) = ran.passage.effects
    assert effect.doc["request"]["url"] == "https://crm.example"


async def test_differences_say_what_is_there() -> None:
    other = Example(
        CONFIG, "no", mocks=GOOD.mocks, secrets=GOOD.secrets, result=1, changes={"profile.traits.manager": 2}
    )
    assert (await run_example(Ask, other)).differences(other) == [
        "left by 'ok', not 'no'",
        "the result is {'status': 200}, not 1",
        "at profile.traits.manager stands 'Kim', not 2",
    ]


@pytest.mark.parametrize(
    ("example", "error"),
    [
        (
            Example(CONFIG, "error", secrets={"CRM": "k"}),
            "GET https://crm.example/p-1: the example has no mock",
        ),
        (Example(CONFIG, "error", secrets={"CRM": "k"}, mocks=[{"error": "refused"}]), "refused"),
        (Example(CONFIG, "error"), "the secret CRM is not set"),
        (Example(CONFIG, "error", secrets={"CRM": "k"}, mocks=[{"body": {}}]), "KeyError"),
    ],
)
async def test_failing_examples(example: Example, error: str) -> None:
    ran = await run_example(Ask, example)
    assert ran.differences(example) == []
    assert error in ran.error
    assert ran.passage.effects == []


async def test_an_example_is_not_changed_by_its_run() -> None:
    profile = {"traits": {"seen": ["a"]}}
    example = Example({"field": "profile.traits.seen", "value": "b"}, "done", profile=profile)
    await run_example("append_value", example)
    await run_example("append_value", example)
    assert profile == {"traits": {"seen": ["a"]}}


async def test_memory_reads() -> None:
    draft = Draft("main", NOW)
    past = [
        {"type": kind, "time": {"happened": happened}}
        for kind, happened in (
            ("a", "2026-01-01T00:00:00.000Z"),
            ("b", "2026-01-14T12:00:00.000Z"),
            ("a", NOW),
        )
    ]
    reads = MemoryReads(
        draft, from_iso(NOW), profiles={"p": {"id": "p"}}, sessions={"s": {"profile": "p"}}, past=past
    )
    assert await reads.count_events(type=None, within=None) == 0
    draft.create_profile("p")
    assert await reads.count_events(type=None, within=None) == 3
    assert await reads.count_events(type=None, within=timedelta(days=1)) == 2
    assert await reads.find_events(type="a", within=None, limit=1) == [past[2]]
    assert await reads.find_profile(session="s") == {"id": "p"}
    assert await reads.find_profile(session="t") is None
    assert await reads.find_profile(id="q") is None
