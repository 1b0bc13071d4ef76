"""The workflow by hand: closures over the same documents, no engine."""
# ruff: noqa: ARG001, ARG005 - all nodes are called alike

from collections.abc import Callable
from typing import Any

Doc = dict[str, Any]
Node = Callable[[Doc, Doc, Doc, Doc], str]
Path = list[tuple[str, str]]
Run = Callable[[Doc, Doc, Doc], tuple[Path, Doc]]
"""Takes event, profile, session; changes the last two; returns the path and the results of the nodes."""

THEN: dict[str, dict[str, tuple[str, ...]]] = {
    "count": {"done": ("is_big",)},
    "is_big": {"true": ("mark", "spent")},
    # `remember` follows both `mark` and `spent`; it runs once, after the later one.
    "mark": {},
    "spent": {"done": ("remember",)},
    "remember": {"done": ("size",)},
    "size": {"large": ("thank",)},
    "thank": {"done": ("is_known",)},
    "is_known": {"true": ("interest", "visit")},
    "interest": {},
    "visit": {},
}


def increment(group: tuple[str, ...], name: str, by: Callable[[Doc], float]) -> Node:
    """Return a node that adds to a number of the profile."""

    def run(event: Doc, profile: Doc, session: Doc, nodes: Doc) -> str:
        place = profile
        for key in group:
            place = place[key]
        place[name] = place.get(name, 0) + by(event)
        return "done"

    return run


def is_big(event: Doc, profile: Doc, session: Doc, nodes: Doc) -> str:
    """Say whether the order is large enough."""
    given = event["properties"]
    return "true" if given.get("total", 0) >= 100 and given.get("currency") == "EUR" else "false"


def mark(event: Doc, profile: Doc, session: Doc, nodes: Doc) -> str:
    """Put the profile into the segment."""
    if "big-buyer" not in profile["segments"]:
        profile["segments"].append("big-buyer")
    return "done"


def remember(event: Doc, profile: Doc, session: Doc, nodes: Doc) -> str:
    """Keep what the order tells of the buyer."""
    given = event["properties"]
    profile["traits"]["last_order"] = given.get("order")
    profile["traits"]["city"] = given.get("address", {}).get("city")
    return "done"


def size(event: Doc, profile: Doc, session: Doc, nodes: Doc) -> str:
    """Tell large orders from others."""
    total = event["properties"].get("total", 0)
    return "huge" if total >= 100_000 else "large" if total >= 100 else "otherwise"


def thank(event: Doc, profile: Doc, session: Doc, nodes: Doc) -> str:
    """Fill in the text."""
    given, traits = event["properties"], profile["traits"]
    nodes["thank"] = {
        "text": f"Thank you, {traits.get('city', '')}: order {given.get('order', '')}"
        f" for {given.get('total', '')} {given.get('currency', '')}."
    }
    return "done"


def is_known(event: Doc, profile: Doc, session: Doc, nodes: Doc) -> str:
    """Say whether the buyer is known."""
    known = profile["stats"]["counters"].get("orders", 0) > 0 and "big-buyer" in profile["segments"]
    return "true" if known else "false"


def visit(event: Doc, profile: Doc, session: Doc, nodes: Doc) -> str:
    """Keep with the session what was ordered."""
    session["properties"]["last_total"] = event["properties"].get("total")
    session["properties"]["thanks"] = nodes["thank"]["text"]
    return "done"


NODES: dict[str, Node] = {
    "count": increment(("stats", "counters"), "orders", lambda event: 1),
    "is_big": is_big,
    "mark": mark,
    "spent": increment(("stats", "counters"), "spent", lambda event: float(event["properties"]["total"])),
    "remember": remember,
    "size": size,
    "thank": thank,
    "is_known": is_known,
    "interest": increment(("interests",), "shoes", lambda event: 2),
    "visit": visit,
}


def compile_closures() -> Run:
    """Return the whole workflow as one function."""
    compiled: dict[str, tuple[Node, dict[str, tuple[str, ...]]]] = {
        name: (node, THEN[name]) for name, node in NODES.items()
    }

    def run(event: Doc, profile: Doc, session: Doc) -> tuple[Path, Doc]:
        nodes: Doc = {}
        path: Path = []
        ready: tuple[str, ...] = ("count",)
        while ready:
            following: tuple[str, ...] = ()
            for name in ready:
                node, then = compiled[name]
                port = node(event, profile, session, nodes)
                path.append((name, port))
                following += then.get(port, ())
            ready = following
        return path, nodes

    return run
