"""Random stories of people who say who they are, against a small model."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from headrace.engine.model import Doc
from headrace.engine.store.protocol import Query
from tests.conftest import OpenLab
from tests.identity.model_of_stories import LIMITS, Model, Step
from tests.identity.people import FILES, living, session_of, sign_in, who
from tests.makers import Lab

EXAMPLES = {"embedded": 60, "elastic": 4}
WORKSPACE = FILES | {
    "event_types.json": {
        "event_types": {
            "sign-in": {
                "identify": {
                    "email": {"path": "event.properties.email", "per_profile": 2},
                    "customer": {"path": "event.properties.customer", "priority": 1},
                }
            }
        }
    }
}

numbers = count()

STRANGERS = [
    Step("s1", trusted=False, customer=None, email="a"),
    Step("s2", trusted=False, customer=None, email="a"),
    Step("s1", trusted=True, customer=None, email="a"),
]

steps = st.lists(
    st.builds(
        Step,
        st.sampled_from(["s1", "s2", "s3", "s4"]),
        st.booleans(),
        st.sampled_from([None, None, "1", "2"]),
        st.sampled_from([None, "a", "b", "c"]),
    ),
    min_size=1,
    max_size=14,
)


@contextmanager
def opened(open_lab: OpenLab, **more: Any) -> Iterator[tuple[asyncio.Runner, Lab]]:
    """Give an engine and the loop that it runs in, to a test that is not within one."""
    with asyncio.Runner() as runner:
        opening = open_lab(WORKSPACE, outbox=False, timers=False, **more)
        lab = runner.run(opening.__aenter__())
        try:
            yield runner, lab
        finally:
            runner.run(opening.__aexit__(None, None, None))


async def say(lab: Lab, number: int, step: Step) -> str:
    """Send a step; names of one story are apart from those of all others. Returns whose it is."""
    values = {kind: f"{number}-{value}" for kind, value in step.values()}
    source = "backend" if step.trusted else "shop"
    return who(await sign_in(lab, f"{number}-{step.session}", source, **values))


def values_of(profile: Doc, member: str) -> dict[str, set[str]]:
    """Return the values of a profile as the model has them."""
    return {
        kind: {value.partition("-")[2] for value in values}
        for kind, values in profile.get(member, {}).items()
    }


async def people_of(lab: Lab, answered: list[str]) -> dict[str, Doc]:
    """Return the profiles that answers named, as they are now; nothing is counted twice, no claim is two's."""
    people = {}
    for profile in answered:
        doc = await living(lab, profile)
        people[doc["id"]] = doc
    for member in ("identities", "claimed"):
        every = [
            (kind, value)
            for doc in people.values()
            for kind, values in doc.get(member, {}).items()
            for value in values
        ]
        assert len(every) == len(set(every))
    assert sum(doc["stats"]["counters"]["n"] for doc in people.values()) == len(answered)
    return people


@pytest.fixture
def examples(store_kind: str) -> settings:
    return settings(
        max_examples=EXAMPLES[store_kind],
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def test_one_after_another(open_lab: OpenLab, examples: settings) -> None:
    with opened(open_lab) as (runner, lab):

        @examples
        @given(steps)
        @example(STRANGERS)
        def check(story: list[Step]) -> None:
            number, model = next(numbers), Model()
            answered = []
            for step in story:
                answered.append(runner.run(say(lab, number, step)))
                model.take(step)
            people = runner.run(people_of(lab, answered))
            for step in story:
                expected = model.of_session[step.session]
                session = runner.run(session_of(lab, f"{number}-{step.session}"))
                found = runner.run(living(lab, session["profile"]))
                assert values_of(found, "identities") == expected.trusted
                assert values_of(found, "claimed") == expected.claimed
                assert found["stats"]["counters"].get("n", 0) == expected.events
            assert len(people) == sum(1 for person in model.people if person.events)

        check()


def test_all_at_once(open_lab: OpenLab, examples: settings) -> None:
    """Whatever comes first, nothing is lost and nothing counts twice, and limits hold."""
    with opened(open_lab, waiters_per_profile=500) as (runner, lab):

        async def everything(number: int, story: list[Step]) -> dict[str, Doc]:
            answered = await asyncio.gather(*(say(lab, number, step) for step in story))
            return await people_of(lab, answered)

        @examples
        @given(steps)
        def check(story: list[Step]) -> None:
            number = next(numbers)
            people = runner.run(everything(number, story))
            for doc in people.values():
                for kind, values in values_of(doc, "identities").items():
                    assert len(values) <= LIMITS[kind]
            trusted = {value for step in story if step.trusted for value in step.values()}
            known = {
                (kind, value)
                for doc in people.values()
                for kind, values in values_of(doc, "identities").items()
                for value in values
            }
            assert known <= trusted

        check()
        runner.run(lab.settle())
        assert runner.run(lab.store.count(Query("failed"))) == 0
