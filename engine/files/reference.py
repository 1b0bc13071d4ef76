"""Generated pages: every plugin, and every code of lint."""

import json
import re
from collections.abc import Iterator
from typing import Any

from headrace.engine.catalog import BUILT_IN, Catalog, PluginInfo
from headrace.engine.files.problem import CODES
from headrace.engine.plugin import ERROR_PORT, Example

WIDTH = 90
"""Longest line of JSON in a page."""

_GROUPS = {
    "F": "Files",
    "M": "Members",
    "N": "Names",
    "W": "Workflows",
    "X": "Expressions, templates and paths",
    "S": "Sources",
    "E": "Event types",
    "I": "Identifying values",
    "G": "Segments and goals",
    "T": "Tests",
    "P": "Plugins of other packages",
}


_KINDS = (
    "`template`: text in which `{{ … }}` is filled in ([templates](workflows.md#templates)).",
    "`… or template`: a value of that type, or a template that gives one.",
    "`JSON of templates`: any JSON; every text in it is a template.",
    "`expression`: a condition or a formula ([expressions](workflows.md#expressions)).",
    "`path`, `path to write`: where to read or write ([paths](workflows.md#paths-where-a-node-writes)).",
    "`text`: taken as it stands; nothing is filled in.",
    '`secret`: `{"secret": "NAME"}`, whose value comes from the environment.',
)


def plugin_reference(catalog: Catalog) -> str:
    """Return the page of all plugins, in Markdown."""
    lines = [
        "# Plugins",
        "",
        "Every plugin also has the port `error`, taken when the node fails.",
        "",
        "The type of a config's member says what may stand there:",
        "",
        *(f"- {about}" for about in _KINDS),
        "",
        "| plugin | what it is for |",
        "|---|---|",
    ]
    lines += [f"| [{name}](#{name}) | {_cell(info.summary)} |" for name, info in catalog.items()]
    for info in catalog.values():
        lines += ["", *plugin_page(info)]
    return "\n".join(lines) + "\n"


def plugin_page(info: PluginInfo) -> Iterator[str]:
    """Yield the lines of one plugin's part of the page."""
    yield f"## {info.name}"
    yield ""
    yield from info.doc.splitlines()
    if info.origin != BUILT_IN:
        yield ""
        yield f"It comes with the package `{info.origin}`."
    yield from _config_table(info.config_schema())
    yield from ("", "| port | taken when |", "|---|---|")
    for port, about in info.ports.items():
        yield f"| `{port}` | {_cell(about)} |"
    if info.ports_vary:
        yield "| … | The config names more ports. |"
    yield f"| `{ERROR_PORT}` | The node failed. |"
    yield from _examples(info)


def problem_reference() -> str:
    """Return the page of all codes of lint, in Markdown."""
    lines = [
        "# Problems",
        "",
        "`headrace lint` names every problem with one of these codes.",
        "An error keeps a file from being used. A warning does not.",
    ]
    for letter, title in _GROUPS.items():
        lines += ["", f"## {title}", "", "| code | | meaning | how to mend it |", "|---|---|---|---|"]
        for name, code in CODES.items():
            if name.startswith(letter):
                lines.append(f"| {name} | {code.severity} | {_cell(code.meaning)} | {_cell(code.mend)} |")
    return "\n".join(lines) + "\n"


def _config_table(schema: dict[str, Any]) -> Iterator[str]:
    members = schema.get("properties", {})
    if not members:
        yield from ("", "It has no config.")
        return
    yield from ("", "| config | type | default | meaning |", "|---|---|---|---|")
    yield from _rows(schema, schema.get("$defs", {}), "", 0)


def _rows(schema: dict[str, Any], defs: dict[str, Any], before: str, depth: int) -> Iterator[str]:
    required = schema.get("required", ())
    for name, member in schema.get("properties", {}).items():
        inner = _resolved(_only(member), defs)
        shown = f"`{json.dumps(member.get('default'), ensure_ascii=False)}`"
        default = "*required*" if name in required else shown
        about = _cell(member.get("description") or inner.get("description") or "")
        yield f"| `{before}{name}` | {_type(member, defs)} | {_cell(default)} | {about} |"
        items = _resolved(inner.get("items", {}), defs)
        if depth < 2 and "secret" not in (_type(inner, defs), _type(items, defs)):
            yield from _rows(inner, defs, f"{before}{name}.", depth + 1)
            yield from _rows(items, defs, f"{before}{name}[].", depth + 1)


def _resolved(schema: Any, defs: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(schema, dict):
        return {}
    if "$ref" in schema:
        found: dict[str, Any] = defs.get(schema["$ref"].rsplit("/", 1)[-1], {})
        return {**found, **schema}
    return schema


def _only(schema: Any) -> Any:
    """Return the one schema of a member that may also be null."""
    kinds = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    return {**kinds[0], **schema} if len(kinds) == 1 else schema


def _type(schema: Any, defs: dict[str, Any]) -> str:
    schema = _resolved(schema, defs)
    if "x-kind" in schema:
        return str(schema["x-kind"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    for word in ("anyOf", "oneOf"):
        if word in schema:
            kinds = [_type(one, defs) for one in schema[word] if one.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_many(_type(schema.get('items', {}), defs))}"
    if kind == "object" and list(schema.get("properties", ())) == ["secret"]:
        return "secret"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_many(_type(schema['additionalProperties'], defs))}"
    return {"string": "text", "integer": "whole number", "boolean": "true or false", None: "any JSON"}.get(
        kind, str(kind)
    )


def _many(kind: str) -> str:
    return re.sub(r"\b(template|expression|path|secret|text|number|object|duration)\b", r"\1s", kind)


def _examples(info: PluginInfo) -> Iterator[str]:
    """Yield the examples, those with one config together."""
    by_config: dict[str, list[Example]] = {}
    for example in info.examples:
        node = {"plugin": info.name, **({"config": example.config} if example.config else {})}
        by_config.setdefault(layout(node), []).append(example)
    for node_text, examples in by_config.items():
        yield from ("", "```json")
        yield from node_text.splitlines()
        yield from ("```", "")
        for example in examples:
            yield _outcome(example)


def _outcome(example: Example) -> str:
    """Write in one line what is there before and what comes out."""
    befores = {"event": example.event, "profile": example.profile, "session": example.session}
    before = [f"{word} `{_json(value)}`" for word, value in befores.items() if value]
    before += [f"earlier events, newest first, `{_json(list(example.past))}`"] if example.past else []
    before += ["no profile"] if example.profile is None else []
    if example.at != Example.at:
        before.append(f"the time {example.at}")
    if example.awaited is not None:
        before.append(f"the event `{_json(example.awaited)}` while it waits")
    text = f"With {', '.join(before)}, it leaves" if before else "It leaves"
    text += f" by `{example.port}`"
    if example.result not in (..., None):
        text += f" with the result `{_json(example.result)}`"
    if example.changes:
        text += "; then " + ", ".join(
            f"`{path}` is `{_json(value)}`" for path, value in example.changes.items()
        )
    return f"- {example.about.rstrip('.')}. {text}." if example.about else f"- {text}."


def layout(value: Any, indent: str = "") -> str:
    """Write JSON so that what fits into a line stands in one."""
    line = _json(value)
    if len(indent) + len(line) <= WIDTH or not isinstance(value, dict | list) or not value:
        return line
    inner = indent + "  "
    if isinstance(value, dict):
        rows = [f"{inner}{_json(key)}: {layout(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    rows = [f"{inner}{layout(item, inner)}" for item in value]
    return "[\n" + ",\n".join(rows) + f"\n{indent}]"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _cell(text: str) -> str:
    """Write a text so that it fits into a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
