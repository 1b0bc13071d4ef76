"""Identifying fields of event types: the member `identify`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from headrace.engine.config.fields import ReadPath
from headrace.engine.config.names import KEY
from headrace.engine.files.json_file import JsonFile
from headrace.engine.files.problem import Problem
from headrace.engine.identity.values.kinds import MAILS, Kind, compared
from headrace.engine.model import Doc
from headrace.engine.trigger import FileModel
from headrace.engine.writing.path import MISSING

KindName = Annotated[str, StringConstraints(max_length=64), KEY]

SETTINGS = ("per_profile", "priority", "from_", "blocked", "most_profiles", "normalise")
"""Members that belong to the kind, whichever event type says them."""


def _of_event(path: ReadPath) -> ReadPath:
    if path.path.root != "event" or not path.path.keys:
        fix = "Name a member of the event, such as event.properties.email."
        raise PydanticCustomError("path", "identifying values come from the event", {"fix": fix})
    return path


class IdentifyFile(FileModel):
    """One identifying field of an event type. Everything but `path` is a setting of its kind, and is said once."""

    path: Annotated[ReadPath, AfterValidator(_of_event)] = Field(
        description="Where the value stands in the event.", examples=["event.properties.email"]
    )
    per_profile: int | None = Field(
        None, ge=1, le=100, description="Values of this kind that one person may have. Default: 1."
    )
    priority: int | None = Field(
        None, ge=1, le=1000, description="Kinds with a smaller number go first. Default: 10."
    )
    from_: Literal["trusted", "any"] | None = Field(
        None,
        alias="from",
        description="Whose values are believed: those of sources with a key, or of all. Default: trusted.",
    )
    blocked: list[str | int] | None = Field(
        None, max_length=1000, description="Values that identify nobody, such as addresses of tests."
    )
    most_profiles: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Profiles that one may be made of by values of this kind. Default: 100.",
    )
    normalise: Literal["mail", "text"] | None = Field(
        None,
        description="How values are compared: `mail` without regard to case. Default: by the kind's name.",
    )

    def settings(self) -> Doc:
        """Return the settings that are said here."""
        return {name: getattr(self, name) for name in SETTINGS if getattr(self, name) is not None}


Identify = Mapping[str, IdentifyFile]


class Identifies(Protocol):
    """What has identifying fields: the entry of an event type, and its compiled form."""

    @property
    def identify(self) -> Identify:
        """The fields by the kinds of their values."""
        ...


Reader = Callable[[Any], Any]
"""Returns what stands at a place of an event, or MISSING."""


@dataclass(frozen=True, slots=True)
class Identifiers:
    """The kinds of identifying values, and where the types of events have them, those that go first at the front."""

    kinds: Mapping[str, Kind]
    fields: Mapping[str, tuple[tuple[Kind, Reader], ...]]

    def __bool__(self) -> bool:
        return bool(self.fields)

    def values(self, event: Doc) -> list[tuple[Kind, str]]:
        """Return the identifying values of an event as they are compared, without those that are nobody's."""
        found: list[tuple[Kind, str]] = []
        for kind, read in self.fields.get(event["type"], ()):
            value = read(event)
            text = None if value is MISSING else kind.normalise(value)
            if text is not None:
                found.append((kind, text))
        return found


NO_IDENTIFIERS = Identifiers({}, {})


def compile_identifiers(types: Mapping[str, Identifies]) -> Identifiers:
    """Return the kinds that event types declare, with their settings."""
    settings: dict[str, Doc] = {}
    for declared in types.values():
        for name, field in declared.identify.items():
            settings.setdefault(name, {}).update(field.settings())
    kinds = {name: _kind(name, said) for name, said in settings.items()}
    fields = {}
    for event_type, declared in types.items():
        if declared.identify:
            pairs = [(kinds[name], field.path.path.reader) for name, field in declared.identify.items()]
            fields[event_type] = tuple(sorted(pairs, key=lambda pair: (pair[0].priority, pair[0].name)))
    return Identifiers(kinds, fields)


def _kind(name: str, said: Doc) -> Kind:
    is_mail = said["normalise"] == "mail" if "normalise" in said else name in MAILS
    blocked = {compared(value, is_mail=is_mail) for value in said.get("blocked", ())} - {None}
    usual = Kind(name)
    return Kind(
        name,
        said.get("per_profile", usual.per_profile),
        said.get("priority", usual.priority),
        said.get("from_") == "any",
        frozenset(text for text in blocked if text is not None),
        said.get("most_profiles", usual.most_profiles),
        is_mail,
    )


def check_identify(types: Mapping[str, Identifies], file: JsonFile) -> Iterator[Problem]:
    """Find settings of one kind that contradict each other, and those that believe anybody."""
    said: dict[tuple[str, str], tuple[str, Any]] = {}
    for event_type, declared in types.items():
        for name, field in declared.identify.items():
            at = ("event_types", event_type, "identify", name)
            for setting, value in field.settings().items():
                member = setting.rstrip("_")
                first, before = said.setdefault((name, setting), (event_type, value))
                if before != value:
                    message = f"'{member}' of {name} is {_shown(before)} in '{first}'"
                    fix = f"Say the settings of {name} once; others give only the path."
                    yield file.problem((*at, member), "I01", message, fix)
            if field.from_ == "any":
                message = (
                    f"anyone who sends somebody's {name} becomes that person, and may read what is known"
                )
                fix = "Take it away, unless values of this kind are secrets, such as a code from a mail."
                yield file.problem((*at, "from"), "I02", message, fix)


def _shown(value: Any) -> str:
    return str(value) if not isinstance(value, list) else f"a list of {len(value)}"
