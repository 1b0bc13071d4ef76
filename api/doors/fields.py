"""The parts of a request, checked, with every bad place named."""

from collections.abc import Sequence
from typing import Any

from headrace.engine.errors import FieldError, InputError
from headrace.engine.model import ID_RULE, MAX_ID, Doc, EventInput, clean_id
from headrace.engine.suggest import did_you_mean

MAX_TYPE = 128
MAX_VERSION = 64
_MAX_FOUND = 100

# What a JSON Schema can say of the rules below; the checks themselves are here.
ID_SCHEMA = {
    "minLength": 1,
    "maxLength": MAX_ID,
    "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$",
}
MAYBE_ID_SCHEMA = {"maxLength": MAX_ID, "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"}
TYPE_SCHEMA = {"minLength": 1, "maxLength": MAX_TYPE, "pattern": r"\S"}
VERSION_SCHEMA = {"maxLength": MAX_VERSION}
TIME_SCHEMA = {"format": "date-time"}

TYPE_RULE = f"should be a text of 1 to {MAX_TYPE} characters, not blank"


def is_event_type(text: str) -> bool:
    """Say whether a text can be an event type; it is kept as it was sent."""
    return 0 < len(text) <= MAX_TYPE and not text.isspace()


class Findings:
    """Reads members of JSON objects and collects what is wrong with them."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []

    def bad(self, pointer: str, message: str) -> None:
        """Note a bad field."""
        if len(self.errors) < _MAX_FOUND:
            self.errors.append(FieldError(pointer, message))

    def stop_if_bad(self) -> None:
        """Raise InputError 422 with all bad fields, if there are any."""
        if self.errors:
            raise bad_fields(self.errors)

    def object(self, value: Any, pointer: str) -> Doc:
        """Return an object; null and absent are an empty one."""
        if isinstance(value, dict):
            return value
        if value is not None:
            self.bad(pointer, f"should be an object, not {_kind(value)}")
        return {}

    def id(self, value: Any, pointer: str) -> str:
        """Return a required id."""
        if value is None:
            self.bad(pointer, "is missing")
        elif not isinstance(value, str):
            self.bad(pointer, f"should be a text, not {_kind(value)}")
        elif (text := clean_id(value)) is not None:
            return text
        else:
            self.bad(pointer, ID_RULE)
        return ""

    def optional_id(self, value: Any, pointer: str) -> str | None:
        """Return an id; null and a blank text are absent."""
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        return self.id(value, pointer) or None

    def text(self, value: Any, pointer: str) -> str | None:
        """Return an optional text; null and "" are absent."""
        if isinstance(value, str):
            return value or None
        if value is not None:
            self.bad(pointer, f"should be a text, not {_kind(value)}")
        return None

    def version(self, value: Any, pointer: str) -> str | None:
        """Return the version of an event; null and "" are absent."""
        text = self.text(value, pointer)
        if text is not None and len(text) > MAX_VERSION:
            self.bad(pointer, f"should have at most {MAX_VERSION} characters")
        return text

    def only(self, value: Doc, known: Sequence[str]) -> None:
        """Note every member of an object that is not one of these."""
        for name in sorted(value.keys() - set(known)):
            self.bad(f"/{name}", f"is not known ({did_you_mean(name, known).rstrip('.')})")

    def flag(self, options: Doc, name: str, pointer: str, *, default: bool) -> bool:
        """Return an option, which is true or false or not there."""
        value = options.get(name, default)
        if isinstance(value, bool):
            return value
        self.bad(f"{pointer}/{name}", f"should be true or false, not {_kind(value)}")
        return default

    def event_type(self, value: Any, pointer: str) -> str:
        """Return the type of an event."""
        if isinstance(value, str) and is_event_type(value):
            return value
        self.bad(pointer, TYPE_RULE if value is not None else f"is missing: {TYPE_RULE}")
        return ""


def read_event(find: Findings, value: Doc, pointer: str = "") -> EventInput:
    """Return the event that a JSON object is, as far as all doors agree on its members."""
    return EventInput(
        find.event_type(value.get("type"), f"{pointer}/type"),
        find.object(value.get("properties"), f"{pointer}/properties"),
        find.object(value.get("context"), f"{pointer}/context"),
        find.optional_id(value.get("id"), f"{pointer}/id"),
        find.text(value.get("time"), f"{pointer}/time"),
        version=find.version(value.get("version"), f"{pointer}/version"),
    )


def bad_fields(errors: list[FieldError]) -> InputError:
    """Return the error that names bad fields."""
    first = errors[0]
    more = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
    return InputError(422, "bad_fields", f"{first.pointer or 'The body'} {first.message}{more}.", errors)


def too_many_events(limit: int) -> InputError:
    """Return the error for a request with more events than are taken."""
    return InputError(
        413, "too_many_events", f"At most {limit} events are taken in one request. Nothing was kept."
    )


def _kind(value: Any) -> str:
    """Return what a JSON value is, in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
    return "an object"
