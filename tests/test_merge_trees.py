"""Trees of merges with edits between, taken apart in any order."""

from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine.identity.fold import Names, compiled_rules, fold, known_of, strategy_of, survives
from headrace.engine.identity.strategies import is_number, items_of
from headrace.engine.identity.unfold import Loser, restored, unfold
from headrace.engine.model import Doc
from headrace.engine.view import plain
from headrace.engine.writing.path import path_text
from tests.test_fold import names, profiles, rules, told

Declared = dict[str, str]


class Edit(NamedTuple):
    """Something that is written: set, unset, add (a number), append or remove (an item of a list), achieve, apart."""

    op: str
    names: Names
    value: Any
    at: str

    def onto(self, doc: Doc) -> None:
        """Write it, as if each field had been written by hand; objects are made on the way."""
        holder: Any = doc
        for name in self.names[:-1]:
            inner = holder.get(name)
            if type(inner) is not dict:
                if self.op in ("unset", "remove"):
                    return
                inner = holder[name] = {}
            holder = inner
        last, value = self.names[-1], self.value
        match self.op:
            case "set":
                holder[last] = plain(value)
            case "unset":
                holder.pop(last, None)
            case "add":
                holder[last] = holder.get(last, 0) + value
            case "append":
                holder[last] = [*items_of(holder.get(last, [])), value]
            case "remove":
                holder[last] = [one for one in holder.get(last, []) if one != value]
            case "achieve":
                old = holder.get(last) or {"first": self.at, "count": 0, "value": 0}
                new = {"last": self.at, "count": old["count"] + 1, "value": old["value"] + value}
                holder[last] = old | new
        doc["time"]["updated"] = self.at
        if self.op != "apart":
            doc["changed"] = doc.get("changed", {}) | {path_text("profile", self.names): self.at}


def refused(consent: Doc) -> Doc:
    """Return a consent of which nobody knows who gave it."""
    return consent | {"given": False, "until": None, "by": "unmerge"} if consent["given"] else consent


class Joined(NamedTuple):
    """A merge: who was folded in, as it was then, and by which strategies."""

    loser: Doc
    rules: Declared

    def onto(self, doc: Doc) -> Doc:
        return fold(doc, self.loser, compiled_rules(self.rules), "2026-02-01T00:00:00.000Z", "test")


class Person:
    """A profile as it is, and its story: how it began, and what happened to it since but for what was taken back."""

    def __init__(self, doc: Doc) -> None:
        self.doc = doc
        self.first = plain(doc)
        self.story: list[Edit | Joined] = []
        self.into: Person | None = None

    def edit(self, edit: Edit) -> None:
        self.doc = plain(self.doc)
        edit.onto(self.doc)
        self.story.append(edit)

    def join(self, loser: "Person", declared: Declared) -> None:
        joined = Joined(loser.doc, declared)
        self.doc = joined.onto(self.doc)
        self.story.append(joined)
        loser.into = self

    def part(self, loser: "Person", at: str) -> None:
        """Take one out that was merged into this one."""
        losers = {
            one.loser["id"]: Loser(one.loser, compiled_rules(one.rules))
            for one in self.story
            if isinstance(one, Joined)
        }
        id, was = loser.doc["id"], self.doc
        self.doc, consents = unfold(self.doc, id, losers, at)
        withdrawn = self.unsay(loser, was)
        self.story = [one for one in self.story if not (isinstance(one, Joined) and one.loser["id"] == id)]
        loser.doc = restored(loser.doc, self.doc["id"], [], consents, at)
        loser.story += withdrawn
        loser.into = None
        for one, other in ((self, loser), (loser, self)):
            one.story.append(Edit("apart", (other.doc["id"],), None, at))

    def unsay(self, loser: "Person", was: Doc) -> list[Edit]:
        """Let what was agreed to since a merge be said by nobody; returns what the loser withdraws by that."""
        place = next(
            number
            for number, one in enumerate(self.story)
            if isinstance(one, Joined) and one.loser["id"] == loser.doc["id"]
        )
        said = set()
        for number, one in enumerate(self.story):
            if number > place and isinstance(one, Edit) and one.names[0] == "consents":
                said.add(one.names[1])
                self.story[number] = one._replace(value=refused(one.value))
        given = [name for name, one in loser.doc["consents"].items() if name in said and one["given"]]
        now = was["consents"]
        return [Edit("set", ("consents", name), refused(now[name]), was["time"]["updated"]) for name in given]

    def expected(self) -> Doc:
        """Return what it would be if nobody had ever been merged into it that is not in it now."""
        doc: Doc = plain(self.first)
        for one in self.story:
            if isinstance(one, Joined):
                doc = plain(one.onto(doc))
            elif one.op == "apart":
                doc["apart"] = list(dict.fromkeys((*doc.get("apart", ()), *one.names)))
                doc["time"]["updated"] = one.at
            else:
                one.onto(doc)
        return doc


def compared(doc: Doc, declared: Declared | None) -> Doc:
    """Return a profile as two are compared of which one was merged, with the times of its traits.

    Without strategies times are left out.
    """
    whole = told(doc)
    whole.pop("changed", None)
    for goal in whole.get("goals", {}).values():
        if goal["first"] > "2026-03":
            # Of a goal that only the other one had reached before, the last time since is known, not the first.
            goal["first"] = "since"
    if declared is None:
        return whole
    known = known_of(doc)
    whole["times"] = {
        path_text("profile", way): known.time_of(way, "newest", value)
        for way, value in _leaves(("traits",), doc["traits"], compiled_rules(declared))
    }
    return whole


def _leaves(way: Names, value: Any, compiled: dict[Names, str]) -> Iterator[tuple[Names, Any]]:
    if type(value) is dict and strategy_of(way, compiled) is None:
        for name, inner in value.items():
            yield from _leaves((*way, name), inner, compiled)
    else:
        yield way, value


class World:
    """Some people, what happens to them, and a clock that never says the same twice."""

    def __init__(self, docs: list[Doc], declared: Declared) -> None:
        self.declared = declared
        self.compared: Declared | None = declared
        self.people = [Person(doc) for doc in docs]
        self._ticks = count(100)

    def step(self, kind: str, one: int, other: int, way: Names) -> None:
        mine, theirs = self.people[one], self.people[other]
        if kind == "merge":
            self.merge(mine, theirs)
        elif kind == "part":
            self.part(mine)
        elif mine.into is None:
            edit = self._edit(kind, way, mine.doc)
            if edit is not None:
                mine.edit(edit)

    def merge(self, one: Person, other: Person) -> None:
        while one.into is not None:
            one = one.into
        while other.into is not None:
            other = other.into
        if one is not other:
            survivor, loser = (one, other) if survives(one.doc, other.doc) else (other, one)
            survivor.join(loser, self.declared)

    def part(self, loser: Person) -> None:
        """Take one out, if it is in one that was not merged on, and look at both."""
        survivor = loser.into
        if survivor is not None and survivor.into is None:
            survivor.part(loser, self._time())
            for one in (survivor, loser):
                assert compared(one.doc, self.compared) == compared(one.expected(), self.compared)

    def _time(self) -> str:
        return f"2026-03-01T00:00:00.{next(self._ticks)}Z"

    def _edit(self, kind: str, way: Names, doc: Doc) -> Edit | None:
        """Return an edit whose value is nowhere yet, or None where it could be meant in more than one way."""
        number, at = next(self._ticks), self._time()
        compiled = compiled_rules(self.declared)
        match kind:
            case "segment":
                adds = strategy_of(("segments",), compiled) in (None, "union")
                return Edit("append", ("segments",), f"s{number}", at) if adds else None
            case "leave":
                adds = strategy_of(("segments",), compiled) in (None, "union")
                return (
                    Edit("remove", ("segments",), doc["segments"][0], at)
                    if adds and doc["segments"]
                    else None
                )
            case "count":
                return Edit("add", ("stats", "counters", "n"), number, at)
            case "interest":
                adds = compiled.get(("interests", way[0]), "sum") == "sum"
                return Edit("add" if adds else "set", ("interests", way[0]), number, at)
            case "consent":
                return Edit("set", ("consents", way[0]), {"given": True, "at": at}, at)
            case "goal":
                return Edit("achieve", ("goals", "bought"), number, at)
        way = ("traits", *way)
        for length in range(2, len(way)):
            if strategy_of(way[:length], compiled) is not None:
                way = way[:length]
                break
        known_as, value = compiled.get(way), _at(doc, way)
        if known_as == "sum" and all(is_number(_at(one.first, way, 0)) for one in self.people):
            return Edit("add", way, number, at)
        if known_as == "union" and type(value) is list:
            return Edit("append", way, number, at)
        if any(
            strategy in ("sum", "union", "first_set") and (known[: len(way)] == way)
            for known, strategy in compiled.items()
        ):
            return None
        values: dict[str, Any] = {"set": number, "object": {"n": number, "p": number + 0.5}, "list": [number]}
        return Edit("unset", way, None, at) if kind == "unset" else Edit("set", way, values[kind], at)


def _at(doc: Doc, way: Names, missing: Any = None) -> Any:
    """Return what stands at a path, or what is said for nothing."""
    value: Any = doc
    for name in way:
        value = value.get(name, missing) if type(value) is dict else missing
    return value


ways = st.tuples(names, st.sampled_from(["p", "q.q"]), st.sampled_from(["p", "r"])).flatmap(
    lambda way: st.integers(1, 3).map(lambda length: way[:length])
)
EDITS = ["set", "object", "list", "unset", "segment", "leave", "count", "interest", "consent", "goal"]
people = st.integers(0, 3)
steps = st.lists(
    st.tuples(st.sampled_from([*["merge"] * 5, "part", *EDITS]), people, people, ways),
    min_size=5,
    max_size=14,
)
merges = st.lists(st.tuples(people, people), min_size=3, max_size=8)
order = st.permutations(range(4))


@st.composite
def four(draw: Any) -> list[Doc]:
    return [draw(profiles(number)) for number in range(4)]


def part_all(world: World, order: list[int]) -> None:
    """Take everybody out, in an order as far as it can be."""
    while any(one.into for one in world.people):
        for one in order:
            world.part(world.people[one])


@settings(max_examples=50, deadline=None)
@given(four(), rules, steps, order)
def test_what_is_taken_out_was_never_there(
    docs: list[Doc], declared: Declared, steps: list[Any], order: list[int]
) -> None:
    world = World(docs, declared)
    for step in steps:
        world.step(*step)
    part_all(world, order)


@settings(max_examples=50, deadline=None)
@given(four(), st.lists(rules, min_size=3, max_size=3), merges, order)
def test_strategies_may_change_between_merges(
    docs: list[Doc], declared: list[Declared], merges: list[Any], order: list[int]
) -> None:
    before = plain(docs)
    world = World(docs, {})
    # Of what a strategy takes as a whole the times of its parts are not known any more.
    world.compared = None
    for number, (one, other) in enumerate(merges):
        world.declared = declared[number % 3]
        world.merge(world.people[one], world.people[other])
    part_all(world, order)
    for person, doc in zip(world.people, before, strict=True):
        for member in ("traits", "segments", "interests", "stats", "marks", "consents"):
            assert person.doc[member] == doc[member]
