"""What should become of people who say who they are, one after another: said again and simply."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

LIMITS = {"customer": 1, "email": 2}
"""Values that one profile may have of a kind, in the order in which kinds go."""


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
        self.taken: list[tuple[Any, Person]] = []

    def take(self, step: Step, event: Any = None) -> None:
        """Take a step; whose its event is, stands in `taken`."""
        while not self._goes(step):
            pass
        person = self.of_session[step.session]
        person.events += 1
        self.taken.append((event, person))

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
        self.taken = [(event, into if one is gone else one) for event, one in self.taken]
