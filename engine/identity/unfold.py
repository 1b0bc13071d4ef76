"""Takes a profile out of the one that it was folded into."""

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from headrace.engine.draft import PAST, WAITS
from headrace.engine.errors import PathError
from headrace.engine.identity.fold import (
    ABSORBED,
    APART,
    CONSENTS,
    Names,
    Rules,
    default_of,
    join,
    strategy_of,
)
from headrace.engine.identity.strategies import is_number, is_same, items_of, text_of
from headrace.engine.language.lookup import MISSING
from headrace.engine.model import Doc
from headrace.engine.throttling import MEMBER as THROTTLES
from headrace.engine.view import plain
from headrace.engine.writing.edit import sum_of


class Loser(NamedTuple):
    """A profile that was merged into another one: all that it was then, and by which strategies it was merged."""

    whole: Doc
    rules: Rules


class Unfolded(NamedTuple):
    """A survivor without one of its losers, and consents that this one is to have instead of those that it had."""

    doc: Doc
    consents: Doc


def unfold(survivor: Doc, loser: str, losers: Mapping[str, Loser], now: str) -> Unfolded:
    """Return the survivor without one of its losers, by its id; none is changed.

    `losers` has, by id, that one and those that were merged since. It goes back to what the survivor was before that
    one, by what each record says that it was; from there all that came since is done again, but for the merge: those
    that were merged since are folded in anew, and what else was written since is written again. So a field that nobody
    wrote is what it would be if the two had never been merged. A merge whose loser is not known is taken for something
    that was written, and stays.

    Of a consent that was said since nobody knows which of the two said it: as a no it counts for both, as a yes for
    neither.
    """
    absorbed = survivor[ABSORBED]
    place = next(number for number, one in enumerate(absorbed) if one["id"] == loser)
    later = [one for one in absorbed[place:] if one["id"] in losers]
    # The records are as long as all merges together: they are not copied for each layer.
    state, layers = {name: value for name, value in survivor.items() if name != ABSORBED}, []
    for entry in reversed(later):
        one = losers[entry["id"]]
        before = _before(state, entry["was"], one.whole["ids"])
        joined = join(before, *one).doc
        layers.append((entry, one, _Written(one.rules, joined, state), said_since(joined, state)))
        state = before
    again: dict[str, Doc] = {}
    made = state
    for entry, one, written, said in reversed(layers):
        if entry["id"] != loser:
            made, _, was = join(made, *one)
            again[entry["id"]] = {**entry, "was": was}
        made = _unsaid(written.onto(made), said)
    left = [again.get(one["id"], one) for one in absorbed if one["id"] != loser]
    ids = _without(survivor["ids"], losers[loser].whole["ids"])
    frozen = losers[loser].whole
    doc = _finished({**made, "ids": ids, ABSORBED: left}, absorbed[place], frozen, now)
    return Unfolded(doc, withdrawn(frozen, survivor, set().union(*(said for _, _, _, said in layers))))


def said_since(before: Doc, after: Doc) -> set[str]:
    """Return the names of the consents that are other than before."""
    was, now = consents_of(before), consents_of(after)
    return {name for name in (*was, *now) if not is_same(was.get(name, MISSING), now.get(name, MISSING))}


def consents_of(profile: Doc) -> Doc:
    """Return the consents of a profile by their names, given or not."""
    found = profile.get(CONSENTS)
    return found if type(found) is dict else {}


def is_given(consent: Any) -> bool:
    """Say whether a consent was given, whenever it ends."""
    return type(consent) is dict and consent.get("given") is True


def _not_given(consent: Any) -> Doc:
    """Return what was said by nobody knows whom as a consent that is not given."""
    if type(consent) is dict and not is_given(consent):
        return consent
    return {**(consent if type(consent) is dict else {}), "given": False, "until": None, "by": "unmerge"}


def _unsaid(made: Doc, said: set[str]) -> Doc:
    """Return a profile in which no consent is given that was said by nobody knows whom."""
    kept = consents_of(made)
    gone = {name: _not_given(kept[name]) for name in kept if name in said and is_given(kept[name])}
    return {**made, CONSENTS: kept | gone} if gone else made


def withdrawn(profile: Doc, other: Doc, names: Container[str]) -> Doc:
    """Return the consents with some names that a profile gave as they are when another one's word counts as a no."""
    theirs = consents_of(other)
    given = (name for name, consent in consents_of(profile).items() if name in names and is_given(consent))
    return {name: _not_given(theirs.get(name)) for name in given}


def _finished(made: Doc, entry: Doc, frozen: Doc, now: str) -> Doc:
    """Return a profile that a loser was taken out of, with what the engine notes about that."""
    made = plain(made)
    if not made[ABSORBED]:
        del made[ABSORBED]
    for other in entry.get(APART, ()):
        if other not in made["ids"]:
            _keep_apart(made, other)
    _keep_apart(made, frozen["id"])
    _tidy_goals(made)
    _part_notes(made, frozen)
    made["time"]["updated"] = now
    return made


def _keep_apart(profile: Doc, other: str) -> None:
    """Note that a profile was taken apart from another one, also in the records of those that are in it.

    One of them may say the same of itself: what was said of the profile since must not go with that one.
    """
    for one in (profile, *profile.get(ABSORBED, ())):
        one[APART] = list(dict.fromkeys((*one.get(APART, ()), other)))


def _before(after: Doc, was: list[Doc], ids: list[str]) -> Doc:
    """Return what a profile was before a merge of some ids, as its record tells; whatever else it has, it had then."""
    made: Doc = plain(after)
    made["ids"] = _without(made["ids"], ids)
    for field in was:
        _write(made, field["path"], field.get("value", MISSING))
    return made


def _without(ids: list[str], gone: list[str]) -> list[str]:
    dropped = set(gone)
    return [id for id in ids if id not in dropped]


def _write(doc: Doc, names: Sequence[str], value: Any) -> None:
    """Write, or with MISSING take away, what stands at a path."""
    *way, last = names
    for name in way:
        inner = doc.get(name)
        if type(inner) is not dict:
            # What held it was written over since: whatever stood here would be written over again.
            return
        doc = inner
    if value is MISSING:
        doc.pop(last, None)
    else:
        doc[last] = value


class _Written:
    """What was written into a profile between two moments: it was one document, and became another one.

    By rules it is known what is added: numbers and the items of some lists. All else is set.
    """

    def __init__(self, rules: Rules, was: Doc, now: Doc) -> None:
        self._rules = rules
        self._was = was
        self._now = now

    def onto(self, doc: Doc) -> Doc:
        """Return another document with the same written into it."""
        made: Doc = self._value((), self._was, self._now, doc)
        return made

    def _value(self, names: Names, was: Any, now: Any, base: Any) -> Any:
        """Return what becomes of a value; each may be MISSING."""
        strategy = strategy_of(names, self._rules)
        if type(was) is dict and type(now) is dict and strategy is None:
            return self._members(names, was, now, base)
        if is_same(was, now):
            return base
        strategy = strategy or default_of(names)
        if strategy == "sum" and is_number(was) and is_number(now) and (base is MISSING or is_number(base)):
            with suppress(PathError):
                return sum_of(sum_of(now, -was), 0 if base is MISSING else base)
            return now
        if strategy == "union" and was is not MISSING and isinstance(now, list):
            items = _items(items_of(was), now, [] if base is MISSING else items_of(base))
            return items if items or base is not MISSING else MISSING
        return now

    def _members(self, names: Names, was: Doc, now: Doc, base: Any) -> Any:
        mine = base if type(base) is dict else {}
        made = {}
        for name in dict.fromkeys((*mine, *now)):
            value = self._value((*names, name), *(one.get(name, MISSING) for one in (was, now, mine)))
            if value is not MISSING:
                made[name] = value
        # What is no object becomes one only by what was written within it.
        return made if made or type(base) is dict else base


def _items(was: list[Any], now: list[Any], base: list[Any]) -> list[Any]:
    """Return a list without the items that another one lost, and with those that it got."""
    before, after = Counter(map(text_of, was)), Counter(map(text_of, now))
    lost, come = before - after, after - before
    kept = [item for item in base if not _takes(lost, item)]
    return [*kept, *(item for item in now if _takes(come, item))]


def _takes(counted: Counter[bytes], item: Any) -> bool:
    """Say whether an item is among those that are counted, and count it off."""
    text = text_of(item)
    counted[text] -= 1
    return counted[text] >= 0


def waits_of(survivor: Doc, frozen: Doc) -> list[Doc]:
    """Return what runs of the loser still wait for, as the survivor knows it now."""
    mine = _waits(frozen)
    return [one for one in survivor.get(WAITS, ()) if (one["timer"], one["node"]) in mine]


def restored(frozen: Doc, survivor: str, waits: list[Doc], consents: Doc, now: str) -> Doc:
    """Return the loser as it was, but for some consents, and that it is kept apart from its survivor."""
    made: Doc = plain({name: value for name, value in frozen.items() if name != WAITS})
    _keep_apart(made, survivor)
    made["time"]["updated"] = now
    if consents:
        made[CONSENTS] = consents_of(made) | consents
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
    passes = _passes_without(made.pop(THROTTLES, {}), frozen.get(THROTTLES, {}))
    if passes:
        made[THROTTLES] = passes


def _passes_without(kept: Doc, theirs: Doc) -> Doc:
    """Return who passed throttles, without another's passes."""
    made: Doc = {}
    for name, one in kept.items():
        gone = theirs.get(name, {"passed": {}})["passed"]
        left = {
            key: sorted((Counter(times) - Counter(gone.get(key, ()))).elements())
            for key, times in one["passed"].items()
        }
        if any(left.values()):
            made[name] = {**one, "passed": {key: times for key, times in left.items() if times}}
    return made


def _past_without(kept: Doc, theirs: Doc) -> Doc:
    """Return a past without another's; what cannot be told apart is not known any more, and is found again."""
    made: Doc = {}
    for key, entries in kept.items():
        gone = theirs.get(key)
        if gone is None:
            # It was found since in the events of both.
            continue
        if not gone:
            made[key] = entries
        elif isinstance(entries, list) and key[0] in ("c", "s"):
            less = dict(gone)
            left = [[bucket, value - less.get(bucket, 0)] for bucket, value in entries]
            made[key] = [one for one in left if one[1]]
    return made
