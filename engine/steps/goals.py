"""Step 11: which goals did the event achieve?"""

from typing import Any

from headrace.engine.errors import NodeError, PathError
from headrace.engine.files.watched import Watch
from headrace.engine.files.workspace import Workspace
from headrace.engine.model import Doc, make_key
from headrace.engine.passage import Passage
from headrace.engine.steps.segments import emit_own
from headrace.engine.writing.edit import check_number, sum_of

ACHIEVED = "goal-achieved"
"""The type of the internal event that an achieved goal makes, if a workflow takes it."""


def evaluate_goals(passage: Passage, workspace: Workspace) -> None:
    """Keep the goals that the event achieves with it, its session and its profile; once, however often it is run."""
    event = passage.event
    _, goals = workspace.watched.of_type(event["type"])
    if not goals or "replay_of" in event:
        return
    passage.scope.nodes, passage.scope.vars = {}, {}
    achieved = []
    for goal in goals:
        try:
            if goal.when is None or goal.when.test(passage.scope):
                achieved.append({"goal": goal.name, "value": _value(passage, goal)})
        except NodeError as error:
            event["errors"].append(f"goal {goal.name}: {error}")
    if not achieved:
        return
    event["goals"] = achieved
    _keep(passage, achieved)
    if workspace.workflows_for(ACHIEVED):
        for one in achieved:
            emit_own(passage, ACHIEVED, one, make_key("emitted", passage.key, ACHIEVED, one["goal"]))


def _value(passage: Passage, goal: Watch) -> Any:
    """Return what a goal is worth, None where that cannot be told: it is achieved all the same."""
    try:
        return None if goal.value is None else check_number(goal.value.evaluate(passage.scope))
    except (NodeError, PathError) as error:
        passage.event["errors"].append(f"goal {goal.name}: {error}")
        return None


def _keep(passage: Passage, achieved: list[Doc]) -> None:
    draft, happened = passage.draft, passage.event["time"]["happened"]
    for kind, doc in (("session", draft.session), ("profile", draft.profile)):
        if doc is None:
            continue
        goals = dict(doc.get("goals", {}))
        for one in achieved:
            before = goals.get(one["goal"])
            goals[one["goal"]] = _counted(before, happened, _worth(passage, one, before))
        doc["goals"] = goals
        draft.touched.add(kind)


def _worth(passage: Passage, achieved: Doc, before: Doc | None) -> Any:
    """Return what a goal is worth in all; as much as before, where more cannot be kept."""
    worth = [each for each in (before and before["value"], achieved["value"]) if each is not None]
    if len(worth) < 2:
        return worth[0] if worth else None
    try:
        return sum_of(*worth)
    except PathError as error:
        text = f"goal {achieved['goal']}: the value is not added: {error}"
        if text not in passage.event["errors"]:
            passage.event["errors"].append(text)
        return worth[0]


def _counted(before: Doc | None, happened: str, value: Any) -> Doc:
    """Return how often a goal was achieved, with one time more; `value` is of all times."""
    if before is None:
        return {"first": happened, "last": happened, "count": 1, "value": value}
    return {
        "first": min(before["first"], happened),
        "last": max(before["last"], happened),
        "count": before["count"] + 1,
        "value": value,
    }
