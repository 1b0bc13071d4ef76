"""Draws the story of an event as a tree."""

from typing import Any

from rich.tree import Tree

from headrace.drawing import draw_run, target_of
from headrace.engine.model import Doc
from headrace.engine.testing.expectation import shown
from headrace.terminal import plain

LONGEST = 120

STATUS = {
    "sent": "green",
    "fired": "green",
    "pending": "yellow",
    "dead": "red",
    "cancelled": "red",
    "dropped": "red",
}


def told(story: Doc) -> Tree:
    """Return the tree of a story, as the engine tells it."""
    event = story["event"]
    if event is None:
        root = Tree("[bold]It was refused[/]", guide_style="dim")
        _refused(root, story["refused"])
        return root
    root = Tree(f"[bold]{plain(event['id'])}[/] {plain(event['type'])}", guide_style="dim")
    _event(root, story)
    _identity(root.add("[bold]whose it is[/]"), story["identity"])
    _runs(root.add("[bold]workflows[/]"), story)
    for name, draw in (("calls", _effects), ("timers", _timers), ("internal events", _caused)):
        member = {"calls": "effects", "timers": "timers", "internal events": "caused"}[name]
        if story[member]:
            draw(root.add(f"[bold]{name}[/]"), story[member])
    if story["refused"]:
        _refused(root.add("[bold]refused under its id[/]"), story["refused"])
    if story["replays"]:
        _replays(root.add("[bold]replays that were applied[/]"), story["replays"])
    return root


def _event(root: Tree, story: Doc) -> None:
    event = story["event"]
    times = event["time"]
    root.add(f"came by {plain(story['door'])} from {plain(event['source'])}, tenant {plain(event['tenant'])}")
    happened = f", happened {times['happened']}" if times["happened"] != times["received"] else ""
    root.add(f"received {times['received']}{happened} [dim]key {event['key']}[/]")
    cause = story["caused_by"]
    if cause is not None:
        root.add(f"caused by {plain(cause['type'])} [bold]{plain(cause['id'])}[/]")
    if story["replay_of"] is not None:
        root.add(f"a replay of the event with the key [bold]{story['replay_of']}[/]")
    if event["properties"]:
        root.add(
            f"properties {_value(event['properties'])}" + (" [dim]reshaped[/]" if "reshaped" in event else "")
        )
    for name in ("version", "tags"):
        if name in event:
            root.add(f"{name} {_value(event[name])}")
    of_runs = {run.get("error") for run in story["runs"]}
    for error in event["errors"]:
        if error not in of_runs:
            root.add(f"[red]{plain(error)}[/]")


def _identity(tree: Tree, identity: Doc) -> None:
    if identity["profile"] is not None:
        tree.add(f"profile [bold]{plain(identity['profile'])}[/]: {plain(identity['why'])}")
    else:
        tree.add(plain(identity["why"]))
    for one in identity.get("identified", ()):
        tree.add(f"{plain(one['kind'])} {plain(one['decision'])}: {plain(one['why'])}")
    for one in identity.get("merged", ()):
        tree.add(
            f"{plain(one['profile'])} was merged into [bold]{plain(one['into'])}[/] {plain(one['at'])} "
            f"by {plain(one['by'])}"
        )
    if identity["session"] is not None:
        tree.add(f"session {plain(identity['session'])}")
    if "asked" in identity:
        tree.add(f"[yellow]the client named {plain(identity['asked'])}, and did not get it[/]")


def _runs(tree: Tree, story: Doc) -> None:
    for run in story["runs"]:
        if "trace" in run:
            draw_run(tree, run["trace"])
        else:
            _run(tree, run)
    for run in story["skipped"]:
        tree.add(f"[dim]- {plain(run['workflow'])}: {plain(run['why'])}[/]")
    if not story["runs"] and not story["skipped"]:
        tree.add("[yellow]no workflow takes this type of event[/]")


def _run(tree: Tree, run: Doc) -> None:
    by = f" [dim]started by {plain(run['started_by'])}[/]" if "started_by" in run else ""
    mark = "[red]✗[/]" if "error" in run else "[green]✓[/]"
    branch = tree.add(f"{mark} [bold]{plain(run['workflow'])}[/] [dim]{run.get('ms', 0):.2f} ms[/]{by}")
    branch.add(" → ".join(plain(step) for step in run["path"].split()) or "[dim]no node ran[/]")
    if "error" in run:
        branch.add(f"[red]{plain(run['error'])}[/]")


def _effects(tree: Tree, effects: list[Doc]) -> None:
    for effect in reversed(effects):
        target = target_of(effect["request"])
        branch = tree.add(
            f"{_status(effect)} {plain(effect['workflow'])}.{plain(effect['node'])}: {plain(target)} "
            f"[dim]{plain(effect['id'])}[/]"
        )
        for attempt in effect["attempts"]:
            said = " ".join(str(attempt[name]) for name in ("status", "error") if name in attempt)
            branch.add(f"{plain(attempt['at'])} {_value(said)} [dim]{attempt['ms']} ms[/]")
        if effect["status"] == "pending":
            branch.add(f"[dim]due {plain(effect.get('due'))}[/]")


def _timers(tree: Tree, timers: list[Doc]) -> None:
    for timer in reversed(timers):
        where = plain(timer["workflow"]) + (f".{plain(timer['node'])}" if timer.get("node") else "")
        branch = tree.add(f"{_status(timer)} {where} [dim]due {plain(timer.get('due'))}[/]")
        if timer.get("reason"):
            branch.add(_value(timer["reason"]))
        for run in timer.get("runs") or ():
            _run(branch, run)


def _status(doc: Doc) -> str:
    status = doc.get("status") or "pending"
    return f"[{STATUS.get(status, 'yellow')}]{plain(status)}[/]"


def _caused(tree: Tree, events: list[Doc]) -> None:
    for event in events:
        tree.add(f"[bold]{plain(event['type'])}[/] [dim]{plain(event['key'])}[/]")


def _refused(tree: Tree, refused: list[Doc]) -> None:
    for one in refused:
        branch = tree.add(f"[red]{plain(one['code'])}[/] {plain(one['type'])} {plain(one['received'])}")
        if "resent" in one:
            branch.add(f"[green]sent again {plain(one['resent']['at'])}[/]")
        for reason in one["reasons"]:
            branch.add(plain(f"{reason['pointer']}: {reason['message']}".removeprefix(": ")))


def _replays(tree: Tree, replays: list[Doc]) -> None:
    for one in replays:
        branch = tree.add(
            f"{plain(one['workflow'])} [dim]{plain(one['version'])}[/] {plain(one['received'])}"
        )
        for run in one["runs"]:
            text = run.get("path") or f"skipped: {run.get('skipped')}"
            branch.add(plain(text) + (f" [red]{plain(run['error'])}[/]" if "error" in run else ""))
        branch.add(f"[dim]its own story: headrace story {plain(one['key'])}[/]")


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else shown(value)
    return plain(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…")
