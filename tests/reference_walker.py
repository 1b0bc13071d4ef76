"""Walks a workflow by the words of the design, slowly."""

from collections.abc import Mapping
from typing import Any

Nodes = Mapping[str, Mapping[str, Any]]
"""Nodes as in a file: `then`, `join`, `disabled`."""


def walk(nodes: Nodes, ports: Mapping[str, str], ran: tuple[tuple[str, ...], ...] = ()) -> list[list[str]]:
    """Return the waves of a run in which each node leaves by the port that `ports` says.

    Each call looks at everything again: which nodes are ready after the waves in `ran`, in file order.
    """
    done = {name: ports[name] for wave in ran for name in wave}
    ready = tuple(name for name in nodes if name not in done and is_ready(nodes, done, name))
    return walk(nodes, ports, (*ran, ready)) if ready else [list(wave) for wave in ran]


def is_ready(nodes: Nodes, done: Mapping[str, str], name: str) -> bool:
    """Say whether a node may run: no edge into it is waiting, and enough were taken."""
    if nodes[name].get("disabled"):
        return False
    states = edges_into(nodes, done, name)
    if not states:
        return True
    if "waiting" in states or "taken" not in states:
        return False
    return nodes[name].get("join") != "all" or "dead" not in states


def edges_into(nodes: Nodes, done: Mapping[str, str], name: str) -> list[str]:
    """Return the state of each edge into a node."""
    return [
        edge(nodes, done, before, port)
        for before, node in nodes.items()
        for port, targets in node.get("then", {}).items()
        if name in targets
    ]


def edge(nodes: Nodes, done: Mapping[str, str], before: str, port: str) -> str:
    """Return whether the edges at a port are waiting, taken or dead."""
    if before in done:
        return "taken" if done[before] == port else "dead"
    return "waiting" if may_run(nodes, done, before) else "dead"


def may_run(nodes: Nodes, done: Mapping[str, str], name: str) -> bool:
    """Say whether a node that has not run may still run."""
    if nodes[name].get("disabled"):
        return False
    return is_ready(nodes, done, name) or "waiting" in edges_into(nodes, done, name)
