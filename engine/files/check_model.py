"""Validate a part of a file against its model; errors become Problems."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from headrace.engine.config.fields import Names
from headrace.engine.files.json_file import JsonFile, Place, json_type
from headrace.engine.files.problem import Problem, has_errors
from headrace.engine.suggest import did_you_mean

M = TypeVar("M", bound=BaseModel)

_CODES = {
    "extra_forbidden": "M01",
    "missing": "M02",
    "expression": "X01",
    "path": "X02",
    "unknown_segment": "N01",
    "unknown_event_type": "N02",
    "unknown_source": "N03",
    "computed_segment": "N05",
    "unknown_workflow": "N04",
    "unknown_kind": "N06",
}
_TYPES = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "none_required": "null",
    "finite_number": "a finite number",
}
_OPENINGS = {
    "Input should ": "must ",
    "String should ": "must ",
    "List should ": "must ",
    "Dictionary should ": "must ",
    "Value error, ": "",
}


def check_model(
    model: type[M], value: Any, file: JsonFile, place: Place = (), names: Names | None = None
) -> tuple[M | None, list[Problem]]:
    """Return the validated model, or None with the problems; `value` stands at `place` in `file`.

    `names` are the declared names that fields check themselves against.
    """
    try:
        return model.model_validate(value, context=names), []
    except ValidationError as error:
        details = error.errors(include_url=False)
    except RecursionError:
        return None, [file.problem(place, "F08", "is nested too deep to be compiled", "Make it simpler.")]
    merged: dict[tuple[Place, str], list[ErrorDetails]] = {}
    for detail in details:
        inner = _inner_place(detail, value)
        code = _code(detail)
        merged.setdefault((inner, code), []).append(detail)
    problems = []
    for (inner, code), same in merged.items():
        message, fix = _say(model, inner, code, same)
        problems.append(file.problem(place + inner, code, message, fix))
    if names is not None and not has_errors(problems):
        # Event types and kinds need not be declared, so a name that is not only earns a warning.
        context = replace(names, event_types=None, kinds=frozenset())
        return model.model_validate(value, context=context), problems
    return None, problems


def _code(detail: ErrorDetails) -> str:
    if detail["type"] in _CODES:
        return _CODES[detail["type"]]
    if detail["loc"][-1:] == ("[key]",):
        return "M05"
    return "M03" if detail["type"] in _TYPES else "M04"


def _inner_place(detail: ErrorDetails, value: Any) -> Place:
    """Return where the error is, without the names of union members that pydantic puts into it."""
    place: list[str | int] = []
    parts = [part for part in detail["loc"] if part != "[key]"]
    for number, part in enumerate(parts):
        is_item = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if is_item or (isinstance(value, Mapping) and part in value):
            value = value[part]
        elif not (detail["type"] == "missing" and number == len(parts) - 1):
            continue
        place.append(part)
    return tuple(place)


def _say(model: type[BaseModel], inner: Place, code: str, same: list[ErrorDetails]) -> tuple[str, str]:
    detail = same[0]
    context = detail.get("ctx") or {}
    last = str(inner[-1]) if inner else ""
    if code == "M01":
        return f"there is no member '{_short(last)}' here", did_you_mean(last, members_at(model, inner[:-1]))
    if code == "M02":
        return f"the member '{last}' is missing", f'Add "{last}": …'
    if code == "M03":
        wanted = " or ".join(dict.fromkeys(_TYPES[one["type"]] for one in same))
        return f"must be {wanted}, but is {_what(detail['input'])}", ""
    if code == "M05":
        why = _plain(detail["msg"])
        # What we say ourselves names it already.
        is_ours = not why.startswith("must ")
        return why if is_ours else f"'{_short(last)}' is no name for this: it {why}", "Rename it."
    messages = dict.fromkeys(_plain(one["msg"]) for one in same)
    fix = str(context.get("fix") or "")
    return " or ".join(messages), fix[:1].upper() + fix[1:]


def _what(value: object) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return _short(str(value)) if is_number else json_type(value)


def _plain(message: str) -> str:
    message = message.removesuffix(", not more").replace(" after validation", "")
    if message.endswith("at least 1 item, not 0"):
        return "must not be empty"
    for opening, ours in _OPENINGS.items():
        if message.startswith(opening):
            return ours + message[len(opening) :]
    return message


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"


def members_at(model: type[BaseModel], place: Place) -> list[str]:
    """Return the members that an object at a place of a model's data may have."""
    here: Any = model
    for part in place:
        if _is_model(here):
            field = next((f for name, f in here.model_fields.items() if (f.alias or name) == part), None)
            here = field.annotation if field else None
        else:
            arguments = [one for one in get_args(here) if one is not type(None)]
            here = arguments[-1] if arguments else None
        here = _bare(here)
    if not _is_model(here):
        return []
    return [field.alias or name for name, field in here.model_fields.items()]


def _bare(annotation: Any) -> Any:
    """Take Annotated and `| None` away from an annotation."""
    while not _is_model(annotation):
        arguments = [one for one in get_args(annotation) if one is not type(None)]
        if hasattr(annotation, "__metadata__") or (
            type(None) in get_args(annotation) and len(arguments) == 1
        ):
            annotation = arguments[0]
        else:
            return annotation
    return annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
