"""Shows what replays came to."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from rich.table import Table
from rich.tree import Tree

from headrace.drawing import draw_run
from headrace.engine.files.workspace import Workspace
from headrace.engine.model import Doc
from headrace.engine.replay.apply import Applied
from headrace.engine.replay.dry import Replayed, Summary
from headrace.engine.replay.past import REFUSED, Gathered
from headrace.engine.testing.expectation import shown
from headrace.engine.workflow import Workflow
from headrace.terminal import out, plain, say

LONGEST = 160

NOTE = (
    "Dry: nothing is written, nothing is called. Profiles and sessions are as the store has them now, "
    "and as the events before left them."
)
ORIGINS = {
    "recorded": "answered as recorded",
    "mock": "answered by a mock",
    "none": "[yellow]no answer was recorded[/]",
}
WORDS = {
    "refused": "outcome",
    "ran": "ran",
    "skipped": "why it did not run",
    "path": "path",
    "error": "error",
    "change": "change",
    "effect": "call",
    "timer": "timer",
    "event": "internal event",
}
"""How a difference is called, by its `what`."""


def narrowed(done: Replayed, workflows: tuple[str, ...], *, changed: bool) -> Replayed:
    """Return what a replay came to with the differences of some workflows only; () is all of them.

    `changed` leaves out workflows whose file is as it was. Either leaves out what segments and goals make.
    """
    kept = done.differences
    if workflows or changed:
        kept = [one for one in kept if one["what"] == "refused" or "workflow" in one]
    if workflows:
        kept = [one for one in kept if one["what"] == "refused" or one["workflow"] in workflows]
    if changed:
        kept = [one for one in kept if "unchanged" not in one]
    return replace(done, differences=kept)


def replayed_doc(done: Replayed) -> Doc:
    """Return what a replay came to as a program reads it."""
    event = done.event
    doc = {
        "event": event["id"],
        "key": event["key"],
        "type": event["type"],
        "source": event["source"],
        "received": event["time"]["received"],
        "differs": done.differs,
        "differences": done.differences,
        "answers": done.answers,
        "runs": done.traces,
    }
    return doc | {"problem": done.problem} if done.problem else doc


def summary_doc(summary: Summary, found: Gathered) -> Doc:
    """Return a summary as a program reads it."""
    workflows = {
        name: {"then": summary.then[name], "now": summary.now[name], "differ": summary.differing[name]}
        for name in summary.workflows
    }
    counts = {"events": summary.events, "differ": summary.differ, "problems": summary.problems}
    return {"summary": {**counts, "internal": found.internal, "cut": found.is_cut, "workflows": workflows}}


def show_heading(workspace: Workspace, found: Gathered, limit: int) -> None:
    """Write what is going to be done."""
    say(
        f"[bold]{found.events:,}[/] event{'s' * (found.events != 1)} against [bold]{plain(workspace.path)}[/]"
    )
    say(f"[dim]{NOTE}[/]")
    if found.is_cut:
        say(f"[yellow]More events fit: these are the newest {limit:,}; --limit takes more.[/]")
    say()


def show_replayed(done: Replayed, *, whole: bool) -> None:
    """Write how one event differs; with `whole` also what happened now, node by node."""
    event = done.event
    mark = "[yellow]≠[/]" if done.differs else "[green]=[/]"
    tree = Tree(
        f"{mark} [bold]{plain(event['id'])}[/] {plain(event['type'])} from {plain(event['source'])} "
        f"[dim]{event['time']['received']}[/]",
        guide_style="dim",
    )
    if done.problem:
        tree.add(f"[red]cannot be replayed:[/] {plain(done.problem)}")
    for one in done.differences:
        _add_difference(tree, one)
    for workflow, nodes in done.answers.items():
        for node, origin in nodes.items():
            tree.add(f"[dim]{plain(workflow)}.{plain(node)}:[/] {ORIGINS[origin]}")
    if whole and done.traces:
        now = tree.add("[bold]now[/]")
        for trace in done.traces:
            draw_run(now, trace)
    out().print(tree)


def _add_difference(tree: Tree, one: Doc) -> None:
    where = ".".join(one[name] for name in ("workflow", "node") if name in one)
    about = "".join(f" {plain(one[name])}" for name in ("segment", "goal") if name in one)
    inner = f" [dim](of {plain(one['event'])}{about})[/]" if "event" in one else about
    same = (
        " [dim]the file is as it was then: what the store holds has changed[/]" if "unchanged" in one else ""
    )
    name = f"[bold]{plain(where)}[/] " if where else ""
    branch = tree.add(f"{name}{WORDS[one['what']]}{inner}{same}")
    for sign, colour, side in (("-", "red", "then"), ("+", "green", "now")):
        branch.add(f"[{colour}]{sign} {side:<4} {plain(_side(one, side))}[/]")


def _side(one: Doc, side: str) -> str:
    value = one[side]
    if value is None:
        return "nothing"
    if one["what"] == "change":
        before = shown(value["before"]) if "before" in value else "nothing"
        after = shown(value["after"]) if "after" in value else "nothing"
        text = f"{value['path']}: {before} → {after}"
    elif isinstance(value, str):
        text = value
    else:
        text = shown(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def show_summary(summary: Summary, found: Gathered) -> None:
    """Write the totals, and a line for each workflow."""
    if summary.workflows:
        table = Table("workflow", box=None, pad_edge=False)
        for name in ("ran then", "ran now", "differs"):
            table.add_column(name, justify="right")
        for name in summary.workflows:
            style = "yellow" if summary.differing[name] else ""
            numbers = (summary.then[name], summary.now[name], summary.differing[name])
            table.add_row(plain(name), *(f"{number:,}" for number in numbers), style=style)
        out().print(table)
        say()
    differ = f"[yellow]{summary.differ:,} differ[/]" if summary.differ else "[green]none differs[/]"
    more = [f"{summary.problems:,} could not be replayed"] if summary.problems else []
    if found.internal:
        more.append(f"{found.internal:,} internal ones left out: they come with what caused them")
    say(", ".join([f"{summary.events:,} event{'s' * (summary.events != 1)}", differ, *more]))


def plan(events: Iterable[Doc], found: Gathered, workflows: list[Workflow], store: str) -> str:
    """Return what --apply is going to do, as markup."""
    lines = [
        f"[bold]--apply runs {found.events:,} event{'s' * (found.events != 1)} for good[/], in {plain(store)}:"
    ]
    if not workflows:
        lines.append("  they failed, and are sent again through all workflows, each under its own id.")
        return "\n".join(lines)
    ran = dict.fromkeys((workflow.name for workflow in workflows), 0)
    for event in events:
        for run in event["runs"]:
            if run["workflow"] in ran and "skipped" not in run:
                ran[run["workflow"]] += 1
    for workflow in workflows:
        again = f"; it ran for {ran[workflow.name]:,} of them before" if ran[workflow.name] else ""
        lines.append(f"  [bold]{plain(workflow.name)}[/] runs in the version {workflow.version}{again}.")
    lines.append("  Changes of profiles are kept, and calls are made. A second time changes nothing.")
    return "\n".join(lines)


def applied_doc(applied: Applied) -> Doc:
    """Return what became of an event as a program reads it."""
    event = applied.event
    names: dict[str, Any] = {"event": event["id"], "key": event["key"], "type": event["type"]}
    more = {name: value for name, value in (("workflow", applied.workflow), ("why", applied.why)) if value}
    return names | {"outcome": applied.outcome} | more


def show_applied(applied: Applied) -> None:
    """Write what became of one event."""
    colour = {"applied": "green", "before": "dim"}.get(applied.outcome, "red")
    event = applied.event
    again = " again" if REFUSED in event else ""
    words = {"applied": f"sent{again}" if again else "applied", "before": "applied before"}
    said = words.get(applied.outcome, applied.outcome)
    where = f" [bold]{plain(applied.workflow)}[/]" if applied.workflow else ""
    why = f": {plain(applied.why)}" if applied.why else ""
    say(f"[{colour}]{said}[/] {plain(event['id'])} {plain(event['type'])}{where}{why}")


def show_counts(found: Gathered, counts: dict[str, int]) -> None:
    """Write how many events came to what."""
    parts = [f"{number:,} {outcome}" for outcome, number in counts.items()]
    say(f"{found.events:,} event{'s' * (found.events != 1)}: {', '.join(parts) or 'nothing to do'}")
