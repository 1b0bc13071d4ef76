"""The OpenAPI 3.1 document and the HTTP reference, made from the routes."""

from functools import cache
from typing import Any

import msgspec

import headrace
from headrace.api.doors.fields import ID_SCHEMA, TYPE_SCHEMA
from headrace.api.paths import Given, Path
from headrace.api.problems import Problem
from headrace.api.routes import DOOR_RULES, ROUTES
from headrace.engine.model import MAX_ID, Doc

Json = dict[str, Any]

_TOKENS = {"read": "a read token or the admin token", "admin": "the admin token"}
_REF = "#/components/schemas/{name}"
_ABOUT = (
    "Events go in by the doors, workflows process them, and the read API answers what became of them. Bodies are "
    "read as JSON whatever their Content-Type says. Every answer has an `X-Request-Id`. Every error is a problem "
    "(RFC 9457)."
)


@cache
def openapi() -> Json:
    """Return the document that describes every path."""
    bodies = [body for body in _bodies() if body not in (Doc, str)]
    _, components = msgspec.json.schema_components([*bodies, Problem], ref_template=_REF)
    paths: Json = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Headrace", "version": headrace.__version__, "description": _ABOUT},
        "tags": [{"name": "Doors", "description": " ".join(rule for rule, _ in DOOR_RULES)}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "read": {"type": "http", "scheme": "bearer", "description": "A read or admin token."},
                "admin": {"type": "http", "scheme": "bearer", "description": "The admin token."},
            },
        },
    }


def _bodies() -> list[Any]:
    found = [route.body for route in ROUTES if route.body]
    return found + [given.body for route in ROUTES for given in route.answers.values() if given.body]


def _schema(body: Any) -> Json:
    return msgspec.json.schema_components([body], ref_template=_REF)[0][0]


def _operation(route: Path) -> Json:
    operation: Json = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.group],
        "parameters": [*_parts(route), *_query(route), *_headers(route)],
        "responses": {str(status): _answer(status, given) for status, given in route.answers.items()},
    }
    if route.about:
        operation["description"] = route.about
    if route.body:
        operation["requestBody"] = {
            "required": route.body is not Doc,
            "content": {"application/json": {"schema": _schema(route.body)}},
        }
    if route.token:
        operation["security"] = [{route.token: []}]
    return operation


def _answer(status: int, given: Given) -> Json:
    answer: Json = {"description": given.about}
    if given.body:
        answer["content"] = {given.media: {"schema": _schema(given.body)}}
    headers = {"X-Request-Id": ("The id of this request in the log.", True)}
    if status in (429, 503):
        headers["Retry-After"] = ("Seconds to wait.", False)
    answer["headers"] = {
        name: {"description": about, "required": required, "schema": {"type": "string"}}
        for name, (about, required) in headers.items()
    }
    return answer


def _parts(route: Path) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "description": about, "schema": _part_schema(name)}
        for name, about in route.parts.items()
    ]


def _part_schema(name: str) -> Json:
    return {"type": "string", **(TYPE_SCHEMA if name == "event_type" else ID_SCHEMA)}


def _query(route: Path) -> list[Json]:
    if isinstance(route.query, dict):
        return [
            {"name": name, "in": "query", "description": about, "schema": {"enum": words}}
            for name, (about, words) in route.query.items()
        ]
    if route.query is None:
        return []
    shape = msgspec.json.schema_components([route.query], ref_template=_REF)[1][route.query.__name__]
    found = []
    for name, member in shape["properties"].items():
        schema = dict(member)
        about = schema.pop("description", "")
        # A query has no null: leaving the parameter out is none.
        kinds = [kind for kind in schema.pop("anyOf", []) if kind != {"type": "null"}]
        schema |= kinds[0] if kinds else {}
        if schema.get("default", "") is None:
            del schema["default"]
        found.append({"name": name, "in": "query", "description": about, "schema": schema})
    return found


def _headers(route: Path) -> list[Json]:
    return [
        {
            "name": name,
            "in": "header",
            "description": about,
            "schema": {"type": "string", "maxLength": MAX_ID},
        }
        for name, about in route.headers.items()
        # OpenAPI leaves this one to the security schemes.
        if name != "Authorization"
    ]


def http_reference() -> str:
    """Return the Markdown page of every path: what it takes, every status, and why."""
    lines = ["# HTTP reference", "", _ABOUT, "", "Generated from the same table as `/openapi.json`.", ""]
    group = ""
    for route in ROUTES:
        if route.group != group:
            group = route.group
            lines += [f"## {group}", ""]
            lines += _rules() if group == "Doors" else []
        lines += [f"### {route.method} {route.path}", "", f"{route.summary}. {route.about}".strip(), ""]
        if route.token:
            lines += [f"Needs {_TOKENS[route.token]}.", ""]
        lines += _taken(route)
        lines += ["| status | when |", "|---|---|"]
        lines += [f"| {status} | {given.about} |" for status, given in sorted(route.answers.items())]
        lines += [""]
    lines += _shapes()
    return "\n".join(lines)


def _rules() -> list[str]:
    return [
        "| for every door | because |",
        "|---|---|",
        *(f"| {rule} | {why} |" for rule, why in DOOR_RULES),
        "",
    ]


def _taken(route: Path) -> list[str]:
    rows = [(part["name"], part["in"], part["description"]) for part in (*_parts(route), *_query(route))]
    rows += [(name, "header", about) for name, about in route.headers.items()]
    if not rows:
        return []
    table = [f"| `{name}` | {place} | {about} |" for name, place, about in rows]
    return ["| name | in | meaning |", "|---|---|---|", *table, ""]


def _shapes() -> list[str]:
    """Return a table for each body: its members, types and meanings."""
    lines = ["## Bodies", ""]
    for name, schema in openapi()["components"]["schemas"].items():
        lines += [
            f"### {name}",
            "",
            schema.get("description", ""),
            "",
            "| member | type | meaning |",
            "|---|---|---|",
        ]
        required = schema.get("required", ())
        for member, shape in schema.get("properties", {}).items():
            must = " (required)" if member in required else ""
            lines.append(f"| `{member}`{must} | {_type(shape)} | {shape.get('description', '')} |")
        lines.append("")
    return lines


def _type(shape: Json) -> str:
    """Return the type of a member in words."""
    if "$ref" in shape:
        name = shape["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in shape:
        return " or ".join(_type(kind) for kind in shape["anyOf"])
    if shape.get("type") == "array":
        return f"list of {_type(shape['items'])}" if shape.get("items") else "list"
    return str(shape.get("type", "any"))
