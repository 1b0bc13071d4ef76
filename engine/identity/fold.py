"""Two profiles become one: each field by its strategy."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from headrace.engine.draft import CAME_BY, CHANGED, FIRST_SET, PAST, WAITS
from headrace.engine.identity.strategies import Given, is_same, leaf_of
from headrace.engine.language.lookup import MISSING
from headrace.engine.model import Doc
from headrace.engine.segments import past
from headrace.engine.throttling import MEMBER as THROTTLES
from headrace.engine.view import plain
from headrace.engine.writing.path import compile_path, path_text

Names = tuple[str, ...]
Rules = Mapping[Names, str]
"""Strategies by the names of the members that lead to a field of a profile."""

CONSENTS = "consents"

ABSORBED, APART = "absorbed", "apart"
"""What was merged into a profile, and which profiles it was taken apart from."""

_DEFAULTS: Final[Mapping[str, str]] = {
    "traits": "newest",
    "interests": "sum",
    "stats": "sum",
    "segments": "union",
    "identities": "union",
    "claimed": "union",
    CONSENTS: "consent",
    "marks": "largest",
    "goals": "sum",
    "time": "largest",
    "ordered": "latest",
    APART: "union",
    CAME_BY: "union",
}
"""How the members of a profile become one where nothing else is declared."""

_OF_GOALS: Final[Mapping[str, str]] = {"first": "smallest", "last": "largest"}
_WHOLE: Final = frozenset((CONSENTS, "ordered"))
"""Members whose own members are taken whole: half of one consent and half of another would be a third."""

_SPECIAL: Final = frozenset(
    ("id", "ids", "tenant", ABSORBED, APART, CAME_BY, CHANGED, PAST, WAITS, THROTTLES)
)
"""Members that are joined in ways of their own."""


class Known(NamedTuple):
    """When the fields of one profile were last written, as far as that is known."""

    changed: Mapping[str, str]
    updated: str
    created: str

    def time_of(self, names: Names, strategy: str, value: Any) -> str:
        """Return when a field was last written, or what holds it, or is within it; "" for a value that is MISSING."""
        if value is MISSING:
            return ""
        ways = [path_text("profile", names[:length]) for length in range(len(names), 0, -1)]
        known = [self.changed[way] for way in ways if way in self.changed]
        if strategy == FIRST_SET:
            # What holds it may have been written since.
            del known[1:]
        if type(value) is dict:
            inside = (f"{ways[0]}.", f"{ways[0]}[")
            known += [at for path, at in self.changed.items() if path.startswith(inside)]
        return max(known, default=self.created if strategy == FIRST_SET else self.updated)


def known_of(profile: Doc) -> Known:
    """Return when the fields of a profile were written."""
    times = profile.get("time", {})
    return Known(profile.get(CHANGED, {}), str(times.get("updated", "")), str(times.get("created", "")))


def compiled_rules(declared: Mapping[str, str]) -> dict[Names, str]:
    """Return strategies by names, of strategies by paths such as `profile.traits.age`."""
    return {compile_path(text).keys: strategy for text, strategy in declared.items()}


def strategy_of(names: Names, rules: Rules) -> str | None:
    """Return how a field becomes one as a whole; None where objects become one member by member."""
    strategy = rules.get(names)
    if strategy is None and len(names) > 1 and names[0] in _WHOLE:
        return default_of(names)
    return strategy


def default_of(names: Names) -> str:
    """Return how a field becomes one where nothing is declared, and it is no object."""
    if names[0] == "time":
        return "smallest" if names == ("time", "created") else "largest"
    if names[0] == "goals":
        return _OF_GOALS.get(names[-1], "sum")
    return _DEFAULTS.get(names[0], "newest")


def survives(one: Doc, other: Doc) -> bool:
    """Say whether the first of two profiles lives on: the older one, or that with the smaller id.

    It is a total order, so that merges never go round in a ring.
    """
    return (str(one["time"]["created"]), str(one["id"])) <= (
        str(other["time"]["created"]),
        str(other["id"]),
    )


class Joined(NamedTuple):
    """What two profiles become.

    `changes` says of each field that the loser has what became of it. `was` has the fields of the survivor that are
    other than before, and all consents: their path, and the value that they had, if any. No path leads to within
    another one.
    """

    doc: Doc
    changes: list[Doc]
    was: list[Doc]


def join(survivor: Doc, loser: Doc, rules: Rules) -> Joined:
    """Return what two profiles become, but for what the engine notes in them. Neither is changed."""
    folding = _Folding(rules, known_of(survivor), known_of(loser))
    made = dict(survivor)
    for name in dict.fromkeys((*survivor, *loser)):
        if name not in _SPECIAL:
            folded = folding.tree((name,), survivor.get(name, MISSING), loser.get(name, MISSING))
            if folded is not MISSING:
                made[name] = folded
    made["ids"] = list(dict.fromkeys((*survivor["ids"], *loser["ids"])))
    folding.part(made, survivor, loser)
    folding.come(made, survivor, loser)
    folding.agree(survivor)
    folding.date(made, survivor)
    return Joined(made, folding.changes, folding.was)


def fold(survivor: Doc, loser: Doc, rules: Rules, at: str, by: str) -> Doc:
    """Return the survivor with what the loser knew, and a record of it in `absorbed`. Neither is changed.

    Order and grouping do not matter, as long as it is the older one that survives; a loser that is in it already
    changes nothing.
    """
    if loser["id"] in survivor["ids"]:
        return survivor
    return noted(join(survivor, loser, rules), survivor, loser, at, by)


def noted(joined: Joined, survivor: Doc, loser: Doc, at: str, by: str) -> Doc:
    """Return what two profiles became with what the engine notes in them, a record of the loser among it."""
    made = dict(joined.doc)
    _join_notes(made, survivor, loser)
    entry: Doc = {"id": loser["id"], "at": at, "by": by, "was": joined.was}
    made[ABSORBED] = [*survivor.get(ABSORBED, ()), entry]
    return made


def _join_notes(made: Doc, survivor: Doc, loser: Doc) -> None:
    """Join what the engine itself notes in a profile."""
    waits = {(one["timer"], one["node"]): one for side in (loser, survivor) for one in side.get(WAITS, ())}
    if waits:
        made[WAITS] = list(waits.values())
    if PAST in survivor or PAST in loser:
        made[PAST] = past.join(survivor.get(PAST, {}), loser.get(PAST, {}))
    passes = _joined_passes(survivor.get(THROTTLES, {}), loser.get(THROTTLES, {}))
    if passes:
        made[THROTTLES] = passes


def _joined_passes(mine: Doc, theirs: Doc) -> Doc:
    """Return who passed throttles, of two profiles."""
    nothing: Doc = {"longest": 0, "passed": {}}
    made: Doc = {}
    for name in dict.fromkeys((*mine, *theirs)):
        one, other = mine.get(name, nothing), theirs.get(name, nothing)
        keys = dict.fromkeys((*one["passed"], *other["passed"]))
        made[name] = {
            "longest": max(one["longest"], other["longest"]),
            "passed": {
                key: sorted([*one["passed"].get(key, ()), *other["passed"].get(key, ())]) for key in keys
            },
        }
    return made


class _Folding:
    """One fold: its rules, what became of each field, what it was, and the times of fields as they are then."""

    def __init__(self, rules: Rules, mine: Known, theirs: Known) -> None:
        self._rules = rules
        self._mine = mine
        self._theirs = theirs
        self.changes: list[Doc] = []
        self.was: list[Doc] = []
        self.times: dict[str, str] = {}

    def tree(self, names: Names, mine: Any, theirs: Any) -> Any:
        """Return what two values become; MISSING for nothing. An object stays when the other is none."""
        strategy = strategy_of(names, self._rules)
        if strategy is None and dict in (type(mine), type(theirs)):
            return self._object(names, mine, theirs)
        return self._leaf(names, strategy or default_of(names), mine, theirs)

    def part(self, made: Doc, survivor: Doc, loser: Doc) -> None:
        """Note from whom two profiles were taken apart, but for those that are in it now."""
        if APART in survivor or APART in loser:
            mine = survivor.get(APART, MISSING)
            known = dict.fromkeys((*survivor.get(APART, ()), *loser.get(APART, ())))
            ids = set(made["ids"])
            made[APART] = [id for id in known if id not in ids]
            self._note((APART,), mine, made[APART])

    def come(self, made: Doc, survivor: Doc, loser: Doc) -> None:
        """Note by which sources two profiles came; where that is not known of one, it is not known of both."""
        mine, theirs = survivor.get(CAME_BY, MISSING), loser.get(CAME_BY, MISSING)
        if mine is MISSING:
            return
        if theirs is MISSING:
            del made[CAME_BY]
        else:
            made[CAME_BY] = list(dict.fromkeys((*mine, *theirs)))
        self._note((CAME_BY,), mine, made.get(CAME_BY, MISSING))

    def agree(self, survivor: Doc) -> None:
        """Note what was agreed to before, changed or not: from that it is told what is said since."""
        self.was = [field for field in self.was if field["path"][0] != CONSENTS]
        self._note((CONSENTS,), survivor.get(CONSENTS, MISSING), None)

    def date(self, made: Doc, survivor: Doc) -> None:
        """Note when fields were written, and what was known of that before."""
        noted = {path_text("profile", tuple(field["path"])) for field in self.was}
        self.was.append({"path": ["time", "updated"], "value": survivor["time"]["updated"]})
        made[CHANGED] = self.times
        if CHANGED not in survivor:
            self._note((CHANGED,), MISSING, self.times)
            return
        known = survivor[CHANGED]
        for path in dict.fromkeys((*known, *self.times)):
            # With a value that is put back goes its time, be it the same: it may be written since.
            is_noted = path in noted or path.startswith(f"profile.{CONSENTS}.")
            after = None if is_noted else self.times.get(path, MISSING)
            self._note((CHANGED, path), known.get(path, MISSING), after)

    def _object(self, names: Names, mine: Any, theirs: Any) -> Any:
        changes, was = len(self.changes), len(self.was)
        one, other = (mine if type(mine) is dict else {}), (theirs if type(theirs) is dict else {})
        made = self._members(names, one, other)
        if type(mine) is not dict:
            # The whole object is new: there is nothing within it that was otherwise.
            del self.was[was:]
            self._note(names, mine, made)
        if MISSING not in (mine, theirs) and type(mine) is not type(theirs):
            # What is within it was said of more than one thing.
            del self.changes[changes:]
            self.changes.append(_change(names, "object", Given(mine), Given(theirs), Given(made)))
        return made

    def _members(self, names: Names, mine: Doc, theirs: Doc) -> Doc:
        made = {}
        for name in dict.fromkeys((*mine, *theirs)):
            folded = self.tree((*names, name), mine.get(name, MISSING), theirs.get(name, MISSING))
            if folded is not MISSING:
                made[name] = folded
        return made

    def _leaf(self, names: Names, strategy: str, mine: Any, theirs: Any) -> Any:
        # Only where a field may be written are its times of use.
        is_timed = names[0] == "traits" or names in self._rules
        one = Given(mine, self._mine.time_of(names, strategy, mine) if is_timed else "")
        other = Given(theirs, self._theirs.time_of(names, strategy, theirs) if is_timed else "")
        picked = leaf_of(strategy, one, other)
        if is_timed and picked.value is not MISSING:
            self.times[path_text("profile", names)] = picked.at
        if theirs is not MISSING and names != ("time", "updated"):
            self.changes.append(_change(names, strategy, one, other, picked))
            self._note(names, mine, picked.value)
        return picked.value

    def _note(self, names: Names, before: Any, after: Any) -> None:
        """Note what a field was, unless it is that still: un-merging puts it back."""
        if before is MISSING and after is not MISSING:
            self.was.append({"path": list(names)})
        elif not is_same(before, after):
            # A copy: what is written into the profile later must not reach the record.
            self.was.append({"path": list(names), "value": plain(before)})


def _change(names: Names, strategy: str, mine: Given, theirs: Given, picked: Given) -> Doc:
    """Return what became of one field, for people; what was not there has no member."""
    said: Doc = {"path": list(names), "strategy": strategy}
    for name, given in (("before", mine), ("after", picked), ("brought", theirs)):
        if given.value is not MISSING:
            said[name] = plain(given.value)
            if given.at and name != "after":
                said[f"{name}_at"] = given.at
    return said
