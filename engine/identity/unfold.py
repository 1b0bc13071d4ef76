"""Takes a profile out of the one that it was folded into."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

from headrace.engine.draft import CHANGED, PAST, WAITS
from headrace.engine.identity.fold import ABSORBED, APART, Names
from headrace.engine.identity.strategies import Given, is_number, is_same, leaf_of
from headrace.engine.language.lookup import MISSING
from headrace.engine.model import Doc
from headrace.engine.view import plain
from headrace.engine.writing.path import path_text

_ONLY_FILLED: Final = frozenset(("identities", "claimed", "goals", "ordered"))
"""Members that only a profile has which has something in them."""


def unfold(survivor: Doc, frozen: Doc, now: str) -> Doc:
    """Return the survivor without what a loser brought, which is in it; `frozen` is the loser as it was.

    A field that nobody wrote since is as it was before, sums are less by what was brought, and lists lose what only
    the loser had. The records of profiles that were merged later are mended, so that they can be taken out too.
    """
    made: Doc = plain(survivor)
    absorbed = made[ABSORBED]
    place = next(number for number, one in enumerate(absorbed) if one["id"] == frozen["id"])
    entry, later = absorbed.pop(place), absorbed[place:]
    undoing = _Undoing(made)
    since: defaultdict[Names, list[Doc]] = defaultdict(list)
    for one in later:
        for change in one["changes"]:
            since[tuple(change["path"])].append(change)
    for change in entry["changes"]:
        undoing.undo(change, since[tuple(change["path"])])
    if not absorbed:
        del made[ABSORBED]
    made["ids"] = [id for id in made["ids"] if id not in frozen["ids"]]
    made[APART] = list(dict.fromkeys((*made.get(APART, ()), frozen["id"])))
    _tidy_goals(made)
    _part_notes(made, frozen)
    made["time"]["updated"] = now
    return made


def waits_of(survivor: Doc, frozen: Doc) -> list[Doc]:
    """Return what runs of the loser still wait for, as the survivor knows it now."""
    mine = _waits(frozen)
    return [one for one in survivor.get(WAITS, ()) if (one["timer"], one["node"]) in mine]


def restored(frozen: Doc, survivor: str, waits: list[Doc], now: str) -> Doc:
    """Return the loser as it was, but that it is kept apart from its survivor."""
    made: Doc = plain({name: value for name, value in frozen.items() if name != WAITS})
    made[APART] = list(dict.fromkeys((*made.get(APART, ()), survivor)))
    made["time"]["updated"] = now
    return {**made, WAITS: waits} if waits else made


def _waits(profile: Doc) -> set[tuple[str, str]]:
    return {(one["timer"], one["node"]) for one in profile.get(WAITS, ())}


def _tidy_goals(made: Doc) -> None:
    """Drop goals that only the loser achieved; one that was achieved again since has that as its first time."""
    goals = made.get("goals", {})
    for name in list(goals):
        goal = goals[name]
        if not goal.get("count"):
            del goals[name]
        elif "first" not in goal and "last" in goal:
            goal["first"] = goal["last"]
    if "goals" in made and not goals:
        del made["goals"]


def _part_notes(made: Doc, frozen: Doc) -> None:
    """Take the loser's part out of what the engine itself notes."""
    mine = _waits(frozen)
    left = [one for one in made.pop(WAITS, ()) if (one["timer"], one["node"]) not in mine]
    if left:
        made[WAITS] = left
    if PAST in made:
        made[PAST] = _past_without(made[PAST], frozen.get(PAST, {}))


def _past_without(kept: Doc, theirs: Doc) -> Doc:
    """Return a past without another's; what cannot be told apart is not known any more, and is found again."""
    made: Doc = {}
    for key, entries in kept.items():
        gone = theirs.get(key)
        if not gone:
            made[key] = entries
        elif isinstance(entries, list) and key[0] in ("c", "s"):
            less = dict(gone)
            left = [[bucket, value - less.get(bucket, 0)] for bucket, value in entries]
            made[key] = [one for one in left if one[1]]
    return made


class _Undoing:
    """Takes changes back, one field after another, in a profile that is a copy."""

    def __init__(self, made: Doc) -> None:
        self._made = made

    def undo(self, change: Doc, later: list[Doc]) -> None:
        """Take one change back; `later` are the changes of the same field by those that were merged since."""
        names, strategy = tuple(change["path"]), change["strategy"]
        now = _read(self._made, names)
        since = _since(change, later)
        if len(since) == len(later) and is_same(now, _after(change, later)):
            self._put_back(names, _mended(change, later))
        elif strategy == "sum" and is_number(change["brought"]) and is_number(now):
            self._subtract(names, change, later, now)
        elif strategy == "union" and isinstance(now, list):
            self._take_out(names, change, later, now)
        else:
            # Somebody wrote the field since; those that were merged before that are still to be told apart.
            _mended(change, since)

    def _subtract(self, names: Names, change: Doc, later: list[Doc], now: Any) -> None:
        brought = change["brought"]
        for one in later:
            for member in ("before", "after"):
                if is_number(one.get(member)):
                    one[member] -= brought
        left = now - brought
        is_nobodys = "before" not in change and not later and left == 0
        _write(self._made, names, MISSING if is_nobodys else left)

    def _take_out(self, names: Names, change: Doc, later: list[Doc], now: list[Any]) -> None:
        before = _items(change.get("before", []))
        gone = [item for item in _items(change["brought"]) if not _among(item, before)]
        for one in later:
            for member in ("before", "after"):
                items = _items(one.get(member, []))
                kept = [item for item in items if not _among(item, gone)]
                if member == "after":
                    # What this one brought is from here on its own.
                    own = _items(one["brought"])
                    gone = [item for item in gone if not _among(item, own)]
                    kept = [item for item in items if not _among(item, gone)]
                if member in one:
                    one[member] = kept
        left = [item for item in now if not _among(item, gone)]
        is_nobodys = "before" not in change and not later and not left
        _write(self._made, names, MISSING if is_nobodys else left)

    def _put_back(self, names: Names, value: Given) -> None:
        """Put a field back as it would be without the change."""
        _write(self._made, names, value.value)
        times = self._made.get(CHANGED)
        if times is None:
            return
        text = path_text("profile", names)
        if value.value is not MISSING and value.at:
            times[text] = value.at
        else:
            times.pop(text, None)


def _after(change: Doc, later: list[Doc]) -> Any:
    """Return what the last change of a field left."""
    return (later[-1] if later else change).get("after", MISSING)


def _since(change: Doc, later: list[Doc]) -> list[Doc]:
    """Return the later changes up to the first before which somebody wrote the field."""
    known, found = change.get("after", MISSING), []
    for one in later:
        if not is_same(one.get("before", MISSING), known):
            break
        known = one.get("after", MISSING)
        found.append(one)
    return found


def _mended(change: Doc, later: list[Doc]) -> Given:
    """Make later changes what they would be without one before them, and return what the last one leaves then."""
    value = _given(change, "before")
    for one in later:
        _say(one, "before", value)
        value = leaf_of(change["strategy"], value, _given(one, "brought"))
        _say(one, "after", value)
    return value


def _given(change: Doc, member: str) -> Given:
    return Given(change.get(member, MISSING), change.get(f"{member}_at", ""))


def _say(change: Doc, member: str, given: Given) -> None:
    for name, value in ((member, given.value), (f"{member}_at", given.at if member != "after" else "")):
        if value is MISSING or (value == "" and name != member):
            change.pop(name, None)
        else:
            change[name] = value


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _among(item: Any, items: Iterable[Any]) -> bool:
    return any(is_same(item, other) for other in items)


def _read(doc: Any, names: Names) -> Any:
    for name in names:
        if not isinstance(doc, dict) or name not in doc:
            return MISSING
        doc = doc[name]
    return doc


def _write(doc: Doc, names: Names, value: Any) -> None:
    """Write, or with MISSING take away, what stands at a path; objects that are empty then go with it."""
    way = [doc]
    for name in names[:-1]:
        inner = way[-1].get(name)
        if not isinstance(inner, dict):
            if value is MISSING:
                return
            inner = way[-1][name] = {}
        way.append(inner)
    if value is not MISSING:
        way[-1][names[-1]] = value
        return
    way[-1].pop(names[-1], None)
    for depth in range(len(way) - 1, 0, -1):
        if not way[depth] and (depth > 1 or names[0] in _ONLY_FILLED):
            del way[depth - 1][names[depth - 1]]
