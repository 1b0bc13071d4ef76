"""Check a workflow's file as a whole and compile it."""

from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from headrace.engine.catalog import Catalog, PluginInfo, port_names
from headrace.engine.config.fields import Names, Secret
from headrace.engine.files.check_consent import check_before_consent
from headrace.engine.files.check_graph import check_graph
from headrace.engine.files.check_model import check_model
from headrace.engine.files.check_reads import check_reads, compiled_fields
from headrace.engine.files.event_type import EventType
from headrace.engine.files.json_file import JsonFile, Place
from headrace.engine.files.problem import Problem, has_errors
from headrace.engine.files.source import Secrets
from headrace.engine.model import WEBHOOK_DEAD
from headrace.engine.plugin import Plugin
from headrace.engine.suggest import did_you_mean
from headrace.engine.workflow import NodeFile, Workflow, WorkflowFile, compile_workflow

_MEANT = ("config", "then", "join", "disabled")
"""Members of a node without which it would be told wrong things of it, or of others."""


@dataclass(frozen=True)
class Surroundings:
    """What a workflow is checked against."""

    catalog: Catalog
    names: Names
    event_types: Mapping[str, EventType]
    secrets: Secrets


def check_workflow(
    name: str, file: JsonFile, around: Surroundings
) -> tuple[Workflow | None, tuple[Problem, ...]]:
    """Return the compiled workflow, or None when one of the problems is an error."""
    if file.value is None:
        return None, file.problems
    model, problems = check_model(WorkflowFile, file.value, file, (), around.names)
    # One member that is not known, or a name that is not declared, hides nothing else.
    whole = model or _without_strangers(file.value)
    nodes = _nodes(file.value) if whole is None else whole.nodes
    plugins: dict[str, Plugin[Any]] = {}
    for node, entry in nodes.items():
        plugin, found = _check_node(node, entry, file, around)
        problems += found
        if plugin is not None:
            plugins[node] = plugin
    for node, named in _plugins_of_others(file.value, nodes):
        problems += _check_plugin(named, file, ("nodes", node), around)
    problems += _check_targets(nodes, file)
    if whole is not None:
        problems += _check_event_types(whole, file, around)
        problems += _check_schedule(whole, file)
        problems += check_before_consent(whole, file)
        problems += _check_whole(_without_lost_edges(whole), plugins, file, around)
    if model is None or has_errors(problems):
        return None, tuple(problems)
    try:
        return compile_workflow(name, file.data, model, plugins), tuple(problems)
    except ValueError as error:
        fix = "Make several workflows of it, or name the types."
        return None, (*problems, file.problem(("on", "event"), "M04", str(error), fix))


def _check_whole(
    model: WorkflowFile, plugins: Mapping[str, Plugin[Any]], file: JsonFile, around: Surroundings
) -> list[Problem]:
    found = check_graph(model.nodes, file)
    if all(problem.code != "W06" for problem in found):
        # In a circle there is no before and after, which reads of other nodes are about.
        found += check_reads(model, plugins, file, around.event_types, around.names.segments)
    return found


def _without_lost_edges(model: WorkflowFile) -> WorkflowFile:
    """Return the workflow without edges to nowhere or to themselves, which are problems by themselves."""
    nodes = {
        name: entry.model_copy(
            update={
                "then": {
                    port: [to for to in after if to in model.nodes and to != name]
                    for port, after in entry.then.items()
                }
            }
        )
        for name, entry in model.nodes.items()
    }
    return model.model_copy(update={"nodes": nodes})


def _without_strangers(value: Any) -> WorkflowFile | None:
    """Return a workflow as it is without the members that are not known; None when more than that is wrong.

    One that is a typing error of a member that says how nodes hang together is as good as a wrong one.
    """
    try:
        return WorkflowFile.model_validate(value)
    except ValidationError as error:
        details = error.errors(include_url=False)
    except RecursionError:
        return None
    if any(detail["type"] != "extra_forbidden" for detail in details):
        return None
    rest = deepcopy(value)
    for detail in details:
        last = str(detail["loc"][-1])
        if detail["loc"][0] == "nodes" and get_close_matches(last, _MEANT, n=1, cutoff=0.6):
            return None
        inner = rest
        for part in detail["loc"][:-1]:
            inner = inner.get(part) if isinstance(inner, dict) else None
        if not isinstance(inner, dict) or inner.pop(detail["loc"][-1], rest) is rest:
            return None
    try:
        return WorkflowFile.model_validate(rest)
    except ValidationError:
        return None


def _plugins_of_others(value: Mapping[str, Any], nodes: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the plugins that the other nodes name, which cannot be used as they are."""
    raw = value.get("nodes")
    for name, entry in raw.items() if isinstance(raw, dict) else ():
        if name not in nodes and isinstance(entry, dict) and isinstance(entry.get("plugin"), str):
            yield name, entry["plugin"]


def _nodes(value: Mapping[str, Any]) -> dict[str, NodeFile]:
    """Return the nodes that are valid each by itself, so that one bad node hides no other's problems."""
    raw = value.get("nodes")
    valid = {}
    for name, entry in raw.items() if isinstance(raw, dict) else ():
        try:
            valid[name] = NodeFile.model_validate(entry)
        except ValidationError:
            continue
    return valid


def _check_plugin(name: str, file: JsonFile, at: Place, around: Surroundings) -> list[Problem]:
    if name in around.catalog:
        return []
    fix = did_you_mean(name, around.catalog)
    return [file.problem((*at, "plugin"), "W03", f"no plugin '{name[:60]}'", fix)]


def _check_node(
    name: str, entry: NodeFile, file: JsonFile, around: Surroundings
) -> tuple[Plugin[Any] | None, list[Problem]]:
    at: Place = ("nodes", name)
    info = around.catalog.get(entry.plugin)
    if info is None:
        return None, _check_plugin(entry.plugin, file, at, around)
    plugin, ports, problems = _make_plugin(info, entry, file, at, around.names)
    for port in entry.then if ports else ():
        if port not in ports:
            message = f"{entry.plugin} has no port '{port[:60]}'"
            problems.append(file.problem((*at, "then", port), "W04", message, f"Ports: {', '.join(ports)}."))
    if not info.uses:
        problems += _check_no_io(entry, file, at)
    if plugin is not None:
        problems += _check_secrets(plugin, file, at, around.secrets)
    return plugin, problems


def _make_plugin(
    info: PluginInfo, entry: NodeFile, file: JsonFile, at: Place, names: Names
) -> tuple[Plugin[Any] | None, list[str], list[Problem]]:
    """Return the plugin for a node, its ports and the problems; a config that is wrong gives no plugin."""
    place = (*at, "config")
    ports = [] if info.ports_vary else [*info.ports, "error"]
    try:
        config, problems = check_model(info.plugin.config_type, entry.config, file, place, names)
        if config is None:
            return None, ports, problems
        return info.plugin(config), port_names(info, config), problems
    except ValueError as error:
        return None, ports, [file.problem(place, "W11", f"{info.name}: {error}")]
    # The edge to code that is not ours: a plugin that breaks on a config must not break the start.
    except Exception as error:  # noqa: BLE001
        message = f"the plugin {info.name} broke on this config: {type(error).__name__}: {error}"
        return None, ports, [file.problem(place, "W11", message)]


def _check_no_io(entry: NodeFile, file: JsonFile, at: Place) -> Iterator[Problem]:
    for member in ("retry", "timeout_seconds"):
        if getattr(entry, member) is not None:
            message = f"{entry.plugin} does no I/O, so '{member}' has no effect"
            yield file.problem((*at, member), "W12", message, "Delete it.")


def _check_secrets(plugin: Plugin[Any], file: JsonFile, at: Place, secrets: Secrets) -> Iterator[Problem]:
    for place, field in compiled_fields(plugin.config):
        if isinstance(field, Secret) and not secrets(field.name):
            message = f"the secret {field.name} is not set, so this node will fail"
            fix = f"Set {field.name} or {field.name}_FILE before the start."
            yield file.problem((*at, "config", *place), "W18", message, fix)


def _check_targets(nodes: Mapping[str, NodeFile], file: JsonFile) -> Iterator[Problem]:
    raw = (file.value or {}).get("nodes")
    known = list(raw) if isinstance(raw, dict) else []
    for name, entry in nodes.items():
        for port, targets in entry.then.items():
            for index, target in enumerate(targets):
                at = ("nodes", name, "then", port, index)
                if target not in known:
                    message = f"there is no node '{target[:60]}'"
                    yield file.problem(at, "W05", message, did_you_mean(target, known))
                elif target == name:
                    yield file.problem(at, "W09", "the node leads to itself", "Take the edge out.")
                elif target in targets[:index]:
                    yield file.problem(at, "W10", f"the edge to '{target}' stands twice", "Delete one.")


def _check_event_types(model: WorkflowFile, file: JsonFile, around: Surroundings) -> Iterator[Problem]:
    declared = around.names.event_types
    for index, event in enumerate(model.on.event):
        if declared and "*" not in event and event not in declared and event != WEBHOOK_DEAD:
            fix = did_you_mean(event, declared)
            yield file.problem(
                ("on", "event", index), "W13", f"no event type '{event[:60]}' is declared", fix
            )


def _check_schedule(model: WorkflowFile, file: JsonFile) -> Iterator[Problem]:
    on, schedule = model.on, model.on.schedule
    if schedule is None:
        return
    if schedule.segment is None and on.consent and not on.event:
        message = "the event of a schedule without a segment has no profile that could have given a consent"
        yield file.problem(("on", "consent"), "W21", message, 'Add "segment", or take "consent" out.')
    if schedule.source is not None and on.source is not None and schedule.source not in on.source:
        message = f"the events of the schedule are of '{schedule.source}', which 'on.source' does not take"
        yield file.problem(("on", "schedule", "source"), "W21", message, f"Sources: {', '.join(on.source)}.")
