"""Find circles, nodes that never run and joins that never hold."""

from collections.abc import Iterator, Mapping, Sequence

from headrace.engine.files.json_file import JsonFile
from headrace.engine.files.problem import Problem
from headrace.engine.workflow import NodeFile

Nodes = Mapping[str, NodeFile]
Edge = tuple[str, str]
"""Where an edge comes from: node and port."""

Ports = dict[str, str]
"""Which port each node must leave by."""


def check_graph(nodes: Nodes, file: JsonFile) -> list[Problem]:
    """Return the problems of a graph whose edges all lead to nodes that are there."""
    edges = edges_into(nodes)
    circle = find_circle(_after(nodes))
    if circle:
        way = " → ".join(circle)
        return [file.problem(("nodes", circle[0], "then"), "W06", f"a circle: {way}", "Take one edge out.")]
    return list(_never(nodes, edges, file))


def edges_into(nodes: Nodes) -> dict[str, list[Edge]]:
    """Return the edges into each node; several from one port to one node count once."""
    edges: dict[str, list[Edge]] = {name: [] for name in nodes}
    for name, entry in nodes.items():
        for port, targets in entry.then.items():
            for target in dict.fromkeys(targets):
                edges[target].append((name, port))
    return edges


def _after(nodes: Nodes) -> dict[str, list[str]]:
    return {name: [to for targets in entry.then.values() for to in targets] for name, entry in nodes.items()}


def find_circle(after: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the first circle of what leads where, its first member again at the end; [] when there is none."""
    done: set[str] = set()
    for start in after:
        way: list[str] = []
        todo: list[tuple[str, bool]] = [(start, True)]
        while todo:
            name, enters = todo.pop()
            if not enters:
                done.add(way.pop())
            elif name in way:
                return [*way[way.index(name) :], name]
            elif name not in done:
                way.append(name)
                todo.append((name, False))
                todo += [(target, True) for target in reversed(after[name])]
    return []


def _never(nodes: Nodes, edges: Mapping[str, list[Edge]], file: JsonFile) -> Iterator[Problem]:
    """Yield the nodes that can never run, in an order in which causes come first."""
    needs: dict[str, Ports | None] = {}
    for name in in_order(nodes, edges):
        entry, into = nodes[name], edges[name]
        ways = [_taken(edge, needs) for edge in into]
        if entry.disabled:
            needs[name] = None
        elif not into:
            needs[name] = {}
        elif entry.join == "all":
            needs[name] = _all_of(ways)
            if needs[name] is None:
                message = f'"join": "all" can never hold: {_contradiction(into, ways, nodes)}'
                yield file.problem(("nodes", name, "join"), "W08", message, 'Use "any", or take an edge out.')
        else:
            needs[name] = _any_of(ways)
            if needs[name] is None:
                before = ", ".join(dict.fromkeys(node for node, _ in into))
                message = f"the node can never run: what leads to it ({before}) is disabled or never runs"
                yield file.problem(("nodes", name), "W07", message)


def in_order(nodes: Nodes, edges: Mapping[str, list[Edge]]) -> list[str]:
    """Return the nodes so that each comes after all that lead to it; the graph has no circle."""
    waiting = {name: len(into) for name, into in edges.items()}
    order = [name for name in nodes if not waiting[name]]
    for name in order:
        for targets in nodes[name].then.values():
            for target in dict.fromkeys(targets):
                waiting[target] -= 1
                if not waiting[target]:
                    order.append(target)
    return order


def _taken(edge: Edge, needs: Mapping[str, Ports | None]) -> Ports | None:
    """Return what must be so that an edge is taken; None when it never is."""
    node, port = edge
    before = needs[node]
    return None if before is None else {**before, node: port}


def _all_of(ways: list[Ports | None]) -> Ports | None:
    together: Ports = {}
    for way in ways:
        if way is None or any(together.get(node, port) != port for node, port in way.items()):
            return None
        together |= way
    return together


def _any_of(ways: list[Ports | None]) -> Ports | None:
    """Return what is needed whichever way is gone."""
    possible = [way for way in ways if way is not None]
    if not possible:
        return None
    first, *others = possible
    return {node: port for node, port in first.items() if all(way.get(node) == port for way in others)}


def _contradiction(into: list[Edge], ways: list[Ports | None], nodes: Nodes) -> str:
    chosen: Ports = {}
    for (node, _), way in zip(into, ways, strict=True):
        if way is None:
            return f"{node} {'is disabled' if nodes[node].disabled else 'never runs'}"
        for earlier, port in way.items():
            if chosen.setdefault(earlier, port) != port:
                return f"{earlier} leaves by '{chosen[earlier]}' or by '{port}', not by both"
    return "its edges exclude each other"
