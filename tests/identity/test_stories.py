"""Random stories of people who say who they are, against a small model."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from headrace.engine.model import Doc
from headrace.engine.store.protocol import Query
from tests.conftest import OpenLab
from tests.identity.people import FILES, living, session_of, sign_in, who
from tests.makers import Lab

EXAMPLES = {"embedded": 60, "elastic": 4}
LIMITS = {"customer": 1, "email": 2}
"""Values that one profile may have of a kind, in the order in which kinds go."""

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


class Step(NamedTuple):
    """One event: of which session, what it says, and whether its source is trusted."""

    session: str
    trusted: bool
    customer: str | None
    email: str | None

    def values(self) -> Iterator[tuple[str, str]]:
        for kind, value in (("customer", self.customer), ("email", self.email)):
            if value is not None:
                yield kind, value


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


@dataclass(eq=False)
class Person:
    """A profile of the model: what it has for sure, what was only claimed, its events, and whether strangers met."""

    trusted: dict[str, set[str]] = field(default_factory=dict)
    claimed: dict[str, set[str]] = field(default_factory=dict)
    events: int = 0
    met: bool = False


class Model:
    """What should be, said again and simply."""

    def __init__(self) -> None:
        self.people: list[Person] = []
        self.of_session: dict[str, Person] = {}
        self.owners: dict[tuple[bool, str, str], Person] = {}

    def take(self, step: Step) -> None:
        while not self._goes(step):
            pass
        self.of_session[step.session].events += 1

    def _goes(self, step: Step) -> bool:
        """Say what an event says; False when it starts again, with another profile."""
        if step.session not in self.of_session:
            self._give(step.session, Person())
        settled = False
        for kind, value in step.values():
            if step.trusted:
                goes_on = self._trusts(step.session, kind, value, settled)
            else:
                goes_on = self._notes(step.session, kind, value)
            if not goes_on:
                return False
            settled = settled or self.owners.get((step.trusted, kind, value)) is self.of_session[step.session]
        return True

    def _trusts(self, session: str, kind: str, value: str, settled: object) -> bool:
        mine = self.of_session[session]
        owner = self.owners.get((True, kind, value))
        if owner is mine:
            return True
        if owner is None:
            fits = len(mine.trusted.get(kind, ())) < LIMITS[kind]
        else:
            fits = self._fit(mine.trusted, owner.trusted)
        strangers = mine.met and not any(mine.trusted.values())
        if not fits or strangers:
            if not settled:
                self._give(session, owner or Person())
            return bool(settled)
        if owner is not None:
            self._merge(owner, mine)
            return False
        mine.trusted.setdefault(kind, set()).add(value)
        self.owners[True, kind, value] = mine
        return True

    def _notes(self, session: str, kind: str, value: str) -> bool:
        mine = self.of_session[session]
        owner = self.owners.get((False, kind, value))
        is_known = any(mine.trusted.values()) or (owner is not None and any(owner.trusted.values()))
        if owner is mine or is_known:
            return True
        if owner is None:
            if len(mine.claimed.get(kind, ())) < LIMITS[kind]:
                mine.claimed.setdefault(kind, set()).add(value)
                self.owners[False, kind, value] = mine
        elif self._fit(mine.claimed, owner.claimed):
            self._merge(owner, mine)
            owner.met = True
            return False
        return True

    def _give(self, session: str, person: Person) -> None:
        if person not in self.people:
            self.people.append(person)
        self.of_session[session] = person

    def _fit(self, mine: dict[str, set[str]], theirs: dict[str, set[str]]) -> bool:
        return all(
            len(values | theirs[kind]) <= LIMITS[kind] for kind, values in mine.items() if theirs.get(kind)
        )

    def _merge(self, into: Person, gone: Person) -> None:
        for mine, theirs in ((into.trusted, gone.trusted), (into.claimed, gone.claimed)):
            for kind, values in theirs.items():
                mine.setdefault(kind, set()).update(values)
        into.events += gone.events
        into.met = into.met or gone.met
        self.people.remove(gone)
        self.of_session = {key: into if one is gone else one for key, one in self.of_session.items()}
        self.owners = {key: into if one is gone else one for key, one in self.owners.items()}


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
