"""Draws what happened to an event as a tree."""

from typing import Any

from rich.tree import Tree

from headrace.engine.model import Doc
from headrace.engine.testing.expectation import shown
from headrace.terminal import plain

LONGEST = 100


def draw(told: Doc) -> Tree:
    """Return the tree of a dry run: events, their workflows, nodes, and what each changed."""
    root = Tree("[bold]What happened[/]", guide_style="dim")
    for error in told["errors"]:
        root.add(f"[red]{plain(error['event'])} was refused:[/] {plain(error['message'])}")
    for event in told["events"]:
        of = (
            f"of [bold]{plain(event['about'])}[/]" if event.get("about") else f"from {plain(event['source'])}"
        )
        _draw_event(root.add(f"[bold]{plain(event['type'])}[/] {of}"), event)
    if told["effects"]:
        _draw_effects(root.add("[bold]would be sent[/]"), told["effects"])
    if told["timers"]:
        _draw_timers(root.add("[bold]would wait[/]"), told["timers"])
    for name in ("profile", "session"):
        if told[name] is not None:
            _draw_document(root.add(f"[bold]{name} after[/]"), told[name])
    return root


def _draw_event(tree: Tree, event: Doc) -> None:
    for run in event["runs"]:
        draw_run(tree, run)
    for skipped in event["skipped"]:
        tree.add(f"[dim]- {plain(skipped['workflow'])}: {plain(skipped['skipped'])}[/]")
    for one in event.get("goals", ()):
        worth = "" if one["value"] is None else f", worth {_value(one['value'])}"
        tree.add(f"[green]goal[/] {plain(one['goal'])}{worth}")
    if not event["runs"] and not event["skipped"] and not event.get("about"):
        tree.add("[yellow]no workflow takes this type of event[/]")
    for line in event["log"]:
        tree.add(f"[dim]log {plain(line['level'])}:[/] {plain(line['message'])}")
    if event["response"]:
        tree.add(f"answered: {_value(event['response'])}")


def draw_run(tree: Tree, run: Doc) -> None:
    """Draw the full record of a run, node by node."""
    mark = "[red]✗[/]" if "error" in run else "[green]✓[/]"
    by = f" [dim]started by {plain(run['started_by'])}[/]" if "started_by" in run else ""
    branch = tree.add(f"{mark} [bold]{plain(run['workflow'])}[/]{by} [dim]{run['ms']:.2f} ms[/]")
    for name in run["path"]:
        _draw_node(branch, name, run["nodes"][name])
    for name, node in run["nodes"].items():
        if "skipped" in node:
            branch.add(f"[dim]{plain(name)} ({plain(node['plugin'])}): {plain(node['skipped'])}[/]")


def _draw_node(tree: Tree, name: str, node: Doc) -> None:
    time = f" [dim]{node['ms']:.2f} ms[/]" if "ms" in node else ""
    style = "red" if "error" in node else "cyan"
    branch = tree.add(
        f"{plain(name)} [dim]({plain(node['plugin'])})[/] → [{style}]{plain(node['port'])}[/]{time}"
    )
    if "error" in node:
        branch.add(f"[red]{plain(node['error'])}[/]")
    elif node.get("result") is not None:
        branch.add(f"[dim]result[/] {_value(node['result'])}")
    for change in node.get("changes", ()):
        before, after = (
            _value(change[side]) if side in change else "nothing" for side in ("before", "after")
        )
        branch.add(f"{plain(change['path'])}: [dim]{before}[/] → [green]{after}[/]")


def _draw_effects(tree: Tree, effects: list[Doc]) -> None:
    for effect in effects:
        target = target_of(effect["request"])
        tree.add(f"{plain(effect['workflow'])}.{plain(effect['node'])}: {plain(target)}")


def target_of(request: Doc) -> str:
    """Return where an effect goes; an address may be a secret, which has a name only."""
    if "mail" in request:
        return f"mail to {', '.join(request['mail'].get('to', ()))}"
    url = request.get("url")
    text = f"secret {url.get('secret')}" if isinstance(url, dict) else str(url or "?")
    return f"{request.get('method', 'POST')} {text}"


def _draw_timers(tree: Tree, timers: list[Doc]) -> None:
    for timer in timers:
        for node, held in timer.get("held", {}).items():
            what = f" for {', '.join(held['types'])}" if "types" in held else ""
            tree.add(f"{plain(timer['workflow'])}.{plain(node)}:{plain(what)} until {held['due']}")


def _draw_document(tree: Tree, doc: Doc) -> None:
    for name, value in doc.items():
        if value not in ({}, [], None):
            tree.add(f"{plain(name)}: {_value(value)}")


def _value(value: Any) -> str:
    text = shown(value)
    return plain(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…")
