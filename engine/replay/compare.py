"""Says how two accounts of one event differ."""

from collections.abc import Callable, Iterator
from typing import Any

from headrace.engine.model import Doc
from headrace.engine.replay.account import Account, emitter
from headrace.engine.testing.expectation import differences as members_that_differ
from headrace.engine.trace import WHY_NOT

DIGITS = 9
"""Decimals of a number that count; 0.1 + 0.2 is 0.3."""

Stands = Callable[[str], Any]
"""Gives the value that stands at a path after the replay, or None."""


def compare(then: Account, now: Account, stands: Stands) -> list[Doc]:
    """Return the differences as `{"what", "workflow", "node", "then", "now"}`; no member that says nothing.

    `what` is one of: refused, ran, skipped, path, error, change, effect, timer, event. `unchanged` says that the
    workflow's file is as it was then: it is what the store holds that has changed. Within an internal event `event` is
    its type; `segment` or `goal` says of which it is. One that segments or goals make is of no workflow.
    """
    if then.refused or now.refused:
        return _refusals(then, now)
    found = [*_runs(then, now), *_changes(then, now, stands), *_effects(then, now), *_timers(then, now)]
    for key in dict.fromkeys((*then.events, *now.events)):
        before, after = then.events.get(key), now.events.get(key)
        if before is not None and after is not None:
            outer = {"event": after.type, **after.about}
            # What is further inside has said of which event it is.
            found += [one | outer | one for one in compare(before, after, stands)]
        elif before is not None:
            found.append(_difference("event", workflow=emitter(then, key), then=before.type) | before.about)
        elif after is not None:
            found.append(_difference("event", workflow=emitter(now, key), now=after.type) | after.about)
    same = _unchanged(then, now)
    return [one | {"unchanged": True} if one.get("workflow") in same else one for one in found]


def _unchanged(then: Account, now: Account) -> set[str]:
    """Return the workflows that met the event then and now, in one version."""
    both = then.runs.keys() & now.runs.keys()
    return {name for name in both if then.runs[name]["version"] == now.runs[name]["version"]}


def _difference(what: str, *, workflow: str = "", node: str = "", then: Any = None, now: Any = None) -> Doc:
    made = {"what": what, "workflow": workflow, "node": node, "then": then, "now": now}
    return {name: value for name, value in made.items() if value not in ("", None) or name in ("then", "now")}


def _refusals(then: Account, now: Account) -> list[Doc]:
    if then.refused == now.refused:
        return []
    sides = [account.refused or _summary(account) for account in (then, now)]
    return [_difference("refused", then=sides[0], now=sides[1])]


def _summary(account: Account) -> str:
    ran = [name for name, run in account.runs.items() if "skipped" not in run]
    return f"taken, and ran through {', '.join(ran)}" if ran else "taken, and no workflow ran"


def _runs(then: Account, now: Account) -> Iterator[Doc]:
    for name in dict.fromkeys((*then.runs, *now.runs)):
        before, after = then.runs.get(name), now.runs.get(name)
        ran, runs = _ran(before), _ran(after)
        if ran != runs:
            yield _difference("ran", workflow=name, then=_run_text(before), now=_run_text(after))
        elif not ran:
            # That a workflow was not there, or does not take the type, are one to the event.
            if before is not None and after is not None and before["skipped"] != after["skipped"]:
                yield _difference("skipped", workflow=name, then=_run_text(before), now=_run_text(after))
        elif before is not None and after is not None:
            for member in ("path", "error"):
                if before.get(member) != after.get(member):
                    yield _difference(member, workflow=name, then=before.get(member), now=after.get(member))


def _ran(run: Doc | None) -> bool:
    return run is not None and "skipped" not in run


def _run_text(run: Doc | None) -> str:
    if run is None:
        return "did not take the event"
    if "skipped" in run:
        return f"did not run: {WHY_NOT.get(run['skipped'], run['skipped'])}"
    return f"ran: {run['path']}" + (f" ({run['error']})" if "error" in run else "")


def _effects(then: Account, now: Account) -> Iterator[Doc]:
    waited = {timer["workflow"] for timer in then.timers.values()}
    for key in dict.fromkeys((*then.effects, *now.effects)):
        before, after = then.effects.get(key), now.effects.get(key)
        if (
            before is not None
            and after is None
            and before["workflow"] in waited
            and _came_later(then, before)
        ):
            continue
        where = before or after or {}
        names = {"workflow": where["workflow"], "node": where["node"]}
        if before is None or after is None:
            sides = [None if one is None else one["request"] for one in (before, after)]
            yield _difference("effect", **names, then=sides[0], now=sides[1])
            continue
        for one in members_that_differ("request", before["request"], after["request"]):
            yield _difference("effect", **names, then=before["request"], now=after["request"]) | {
                "at": one.place
            }
            break
        else:
            if before["request"] != after["request"]:
                yield _difference("effect", **names, then=before["request"], now=after["request"])


def _came_later(then: Account, effect: Doc) -> bool:
    """Say whether an effect is of a node that ran only after a wait, as far as the path of before is kept."""
    path = str(then.runs[effect["workflow"]].get("path", ""))
    return not any(step.partition(".")[0] == effect["node"] for step in path.split())


def _timers(then: Account, now: Account) -> Iterator[Doc]:
    for key in dict.fromkeys((*then.timers, *now.timers)):
        before, after = then.timers.get(key), now.timers.get(key)
        if before is None or after is None:
            where = before or after or {}
            sides = ["waits" if one is not None else None for one in (before, after)]
            yield _difference("timer", workflow=where["workflow"], then=sides[0], now=sides[1])


def _changes(then: Account, now: Account, stands: Stands) -> Iterator[Doc]:
    """Compare what runs changed, where a trace of then was kept."""
    for workflow, old in then.changes.items():
        if workflow not in now.changes:
            continue
        before, after = _whole(old), _whole(now.changes[workflow])
        for node, path in dict.fromkeys((*before, *after)):
            one, other = before.get((node, path)), after.get((node, path))
            if not _same(one, other, stands(path) if other is None else None):
                sides = [None if each is None else {"path": path, **each} for each in (one, other)]
                yield _difference("change", workflow=workflow, node=node, then=sides[0], now=sides[1])


def _whole(changes: list[Doc]) -> dict[tuple[str, str], Doc]:
    """Return for each node and path what was there first, and last."""
    found: dict[tuple[str, str], Doc] = {}
    for change in changes:
        sides: Doc = {side: change[side] for side in ("before", "after") if side in change}
        first = found.setdefault((change["node"], change["path"]), sides)
        if first is not sides:
            first.pop("after", None)
            first |= {side: value for side, value in sides.items() if side == "after"}
    return found


def _same(then: Doc | None, now: Doc | None, standing: Any) -> bool:
    """Say whether two changes of one place do the same, though they may begin from other values.

    A number that grows by as much, a list that gains and loses the same members, or the same value in the end. One
    that changes nothing any more is the same if what it did then stands already.
    """
    if then is None:
        return False
    if now is not None:
        return then.get("after") == now.get("after") or _deed(then) == _deed(now)
    if standing is None or "after" not in then:
        return standing is None and "after" not in then
    added, removed = _moved(then)
    if isinstance(standing, list) and added is not None:
        return all(item in standing for item in added) and not any(item in standing for item in removed)
    return bool(standing == then["after"])


def _deed(change: Doc) -> Any:
    before, after = change.get("before", 0), change.get("after")
    if isinstance(after, int | float) and isinstance(before, int | float):
        # True is a number to Python; what was true and is true was no change.
        return "by", round(after - before, DIGITS)
    added, removed = _moved(change)
    return ("is", after) if added is None else ("list", added, removed)


def _moved(change: Doc) -> tuple[list[Any] | None, list[Any]]:
    """Return what a list gained and lost; None where it is no list."""
    before, after = change.get("before") or [], change.get("after")
    if not isinstance(before, list) or not isinstance(after, list):
        return None, []
    return [item for item in after if item not in before], [item for item in before if item not in after]
