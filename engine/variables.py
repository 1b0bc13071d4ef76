"""How settings are read from variables, and said back to a person."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from annotated_types import Ge, Le
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from headrace.engine.errors import HeadraceError
from headrace.engine.secrets import find_secret, without_password
from headrace.engine.suggest import did_you_mean

PREFIX = "HEADRACE_"
Fields = Mapping[str, FieldInfo]
"""The declared settings by name."""


class SettingsError(HeadraceError):
    """Settings that cannot be used; `problems` has one sentence for each, the text has them and the warnings."""

    def __init__(self, problems: list[str], warnings: Sequence[str] = ()) -> None:
        lines = [*problems, *(f"Warning: {warning}" for warning in warnings)]
        super().__init__("Settings that cannot be used:\n" + "\n".join(f"  {line}" for line in lines))
        self.problems = tuple(problems)


class Origin(NamedTuple):
    """One setting as `headrace config` shows it; the value of a secret is hidden."""

    name: str
    variable: str
    value: str
    source: str
    """`default`, `environment HEADRACE_X`, `file PATH` or `command line`."""


def variable(name: str) -> str:
    """Return the environment variable of a field."""
    return PREFIX + name.upper()


def collect(
    fields: Fields, environ: Mapping[str, str], overrides: Mapping[str, object]
) -> tuple[dict[str, object], dict[str, str], list[str]]:
    """Return the raw values by field, where each came from, and the secrets that cannot be read."""
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    problems: list[str] = []
    for name, field in fields.items():
        key = variable(name)
        if overrides.get(name) is not None:
            values[name], sources[name] = overrides[name], "command line"
        elif may_be_file(field) and environ.get(f"{key}_FILE"):
            found = find_secret(key, environ)
            values[name], sources[name] = found.value or field.default, found.source
            problems += [found.problem] if found.problem else []
        elif environ.get(key, "").strip():
            values[name], sources[name] = environ[key].strip(), f"environment {key}"
    if strange := overrides.keys() - fields.keys():
        raise TypeError(f"no such setting: {', '.join(sorted(strange))}")
    return values, sources, problems


def problem(fields: Fields, detail: ErrorDetails, sources: Mapping[str, str]) -> str:
    """Say it for the person who set it: the variable, its value, what is allowed."""
    name = str(detail["loc"][0])
    field = fields[name]
    source = sources[name]
    where = f"--{name.replace('_', '-')}" if source == "command line" else variable(name)
    if source.startswith("file "):
        where += "_FILE"
    value = "(hidden)" if is_secret(field) else without_password(str(detail["input"]))[:80]
    text = f"{where}={value}: must be {allowed(field)}."
    if name == "port" and value.startswith("tcp://"):
        return (
            f"{text} Kubernetes sets this one for a Service named 'headrace': say enableServiceLinks: false."
        )
    hint = str(detail.get("ctx", {}).get("error", "")) if detail["type"] == "value_error" else ""
    return f"{text} {hint}".rstrip()


def unknown(fields: Fields, environ: Mapping[str, str]) -> list[str]:
    """Return a warning for each variable that looks like a setting and is none."""
    known = {variable(name) for name in fields}
    files = {f"{variable(name)}_FILE" for name, field in fields.items() if may_be_file(field)}
    return [
        f"{name} is not a setting. {did_you_mean(name, known)}"
        for name in sorted(environ)
        if name.startswith(PREFIX) and name not in known | files
    ]


def extra(field: FieldInfo, key: str) -> str:
    """Return what a declaration says besides its type: its `group`, what is `allowed`."""
    extra = field.json_schema_extra
    return str(extra[key]) if isinstance(extra, dict) else ""


def is_secret(field: FieldInfo) -> bool:
    """Say whether the whole value is a secret."""
    return "SecretStr" in str(field.annotation)


def may_be_file(field: FieldInfo) -> bool:
    """Say whether the value may be in a file, because it is or holds a secret."""
    return is_secret(field) or bool(extra(field, "secret"))


def allowed(field: FieldInfo) -> str:
    """Return what a field takes, in words."""
    if said := extra(field, "allowed"):
        return said
    if field.annotation is bool:
        return "on or off"
    if field.annotation not in (int, float):
        return "one of " + ", ".join(getattr(field.annotation, "__args__", ()))
    kind = "a whole number" if field.annotation is int else "a number"
    least = next(bound.ge for bound in field.metadata if isinstance(bound, Ge))
    most = next((bound.le for bound in field.metadata if isinstance(bound, Le)), None)
    return f"{kind}, at least {least}" if most is None else f"{kind} from {least} to {most}"


def shown(value: object) -> str:
    """Return a value as the environment would say it, without secrets."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, SecretStr):
        return "(hidden)"
    if isinstance(value, tuple):
        return ", ".join(shown(part) for part in value)
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else without_password(str(value))
