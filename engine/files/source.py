"""A source: its entry in sources.json, and its compiled form."""

import hmac
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from headrace.engine.config.fields import Secret
from headrace.engine.config.names import BARE, KEY, MarkName, Named
from headrace.engine.files.json_file import JsonFile
from headrace.engine.files.problem import Problem
from headrace.engine.trigger import FileModel

if TYPE_CHECKING:
    from limits import RateLimitItem

Secrets = Callable[[str], str | None]
"""Gives the value of a named secret, or None when it is not set."""

Door = Literal["track", "collect", "bizzkit", "orbee", "segment", "cloudevents", "pixel"]

_SOURCE = Named(r"[^\s\x00-\x1f\x7f/]+", "have no white space and no / in it")
SourceId = Annotated[str, StringConstraints(max_length=256), _SOURCE]
Word = Annotated[str, StringConstraints(min_length=1, max_length=256), BARE]
ConsentName = MarkName
TenantName = Annotated[str, StringConstraints(max_length=64), KEY]
OrbeeId = Annotated[int | str, Field(description="A number or a uuid, as it stands in the address.")]

_ORIGIN = re.compile(r"(https?)://(\*\.)?[a-z0-9._-]+(:\d{1,5})?|(https?)://\[[0-9a-f:.]+\](:\d{1,5})?")

_BELOW = re.compile(r"[a-z0-9.-]+")
"""What `*` of an origin stands for: names of hosts, and nothing that ends them."""


def _key(value: object) -> "Secret | str":
    if isinstance(value, Secret | str) and value:
        return value
    if (
        isinstance(value, dict)
        and list(value) == ["secret"]
        and isinstance(value["secret"], str)
        and value["secret"]
    ):
        return Secret(value)
    raise PydanticCustomError("key", 'must be an object such as {"secret": "SHOP_KEY"}')


def _origin(value: str) -> str:
    lowered = value.lower().rstrip("/")
    if not _ORIGIN.fullmatch(lowered):
        raise PydanticCustomError(
            "origin",
            "'{value}' is no origin",
            {"value": value[:60], "fix": "Write scheme://host[:port], such as https://shop.example."},
        )
    return lowered


def _rate(value: str) -> str:
    parse_rate(value)
    return value


def parse_rate(text: str) -> "RateLimitItem":
    """Return the rate limit that a text such as "100/second" means; raises a validation error."""
    # Imported when a source has a limit: it takes 150 ms.
    import limits  # noqa: PLC0415

    try:
        rate = limits.parse(text)
    except ValueError:
        rate = None
    if rate is None or rate.amount < 1 or ";" in text:
        raise PydanticCustomError(
            "rate", "'{value}' is no rate", {"value": text[:60], "fix": "Write one such as 100/second."}
        )
    return rate


Key = Annotated[
    Any,
    PlainValidator(_key),
    WithJsonSchema(
        {"anyOf": [{**Secret.json_schema, "description": "The name of the secret."}, {"type": "string"}]}
    ),
]
Origin = Annotated[str, AfterValidator(_origin)]


class SegmentDoor(FileModel):
    """What Segment's doors need of a source."""

    write_keys: list[Word] = Field(min_length=1, description="Write keys; they are public, and only send.")


class BizzkitDoor(FileModel):
    """What /api/events needs of a source."""

    keys: list[Word] = Field(
        min_length=1, description="Instrumentation keys; they are public, and only send."
    )
    segment: str = Field("", description="Kept with each event as `stream`.")


class OrbeeDoor(FileModel):
    """What the Orbee-style path needs of a source."""

    account: OrbeeId = Field(description="The first part of the path.")
    tracker: OrbeeId = Field(description="The second part of the path.")
    vendors: list[Word] = Field([], description="Vendors that are registered in the account.")


class SourceFile(FileModel):
    """One source: where events come from, and what may be done there."""

    tenant: TenantName = Field("main", description="Whose data it is; nothing crosses from one to another.")
    about: str = Field("", description="What the source is.")
    enabled: bool = Field(default=True, description="False: takes nothing; answers as if it were not there.")
    consent: bool = Field(default=False, description="Told to the client: ask the visitor for consent.")
    consents: list[ConsentName] = Field(
        [],
        max_length=20,
        description="Consents that its events need: without all of them an event is kept, and nothing is done with it.",
        examples=[["analytics"]],
    )
    keys: list[Key] = Field(
        [],
        description="Secret keys, by name; any of them is accepted. None: the source is public.",
        examples=[[{"secret": "SHOP_KEY"}]],
    )
    origins: list[Origin] | None = Field(
        None,
        description="Web origins that may send; `https://*.shop.example`: all below. Default: every origin.",
        examples=[["https://shop.example"]],
    )
    doors: list[Door] | None = Field(
        None,
        description="Doors that take its events. Default: /track, /collect, and those with a member here.",
    )
    answers_profile: bool = Field(
        default=False, description="Answer the whole profile to a client that asks."
    )
    public_traits: list[Word] = Field([], description="Traits that a client may read without a key.")
    trust_profile_ids: bool = Field(
        default=False, description="Adopt profile ids that a client chose; needs a key."
    )
    debugger: bool = Field(default=False, description="Answer `debugging` to a client that asks.")
    trace: bool = Field(default=False, description="Keep a trace of every run.")
    ip: Literal["keep", "mask", "drop"] = Field(
        "mask", description="What is kept of the address; `mask` drops the last part."
    )
    respect_dnt: bool = Field(default=True, description="Keep nothing when the browser says DNT or Sec-GPC.")
    bots: Literal["keep", "mark", "drop"] = Field(
        "mark", description="Events of bots: taken as any other, marked, or not kept."
    )
    rate_limit: Annotated[str, AfterValidator(_rate)] | None = Field(
        None, description="Most requests in a time.", examples=["100/second"]
    )
    segment: SegmentDoor | None = Field(None, description="Opens Segment's doors.")
    bizzkit: BizzkitDoor | None = Field(None, description="Opens /api/events.")
    orbee: OrbeeDoor | None = Field(None, description="Opens the Orbee-style path.")


class SourcesFile(FileModel):
    """sources.json: every source of the workspace, by its id."""

    schema_: str | None = Field(
        None, alias="$schema", description="The JSON Schema, for completion in an editor."
    )
    sources: dict[SourceId, SourceFile] = Field(description="Sources by id.")


@dataclass(frozen=True, slots=True)
class Source:
    """A source ready for use. `file` has every member; what stands here is compiled from it."""

    id: str
    file: SourceFile
    doors: frozenset[str]
    doc: Mapping[str, str]
    """What expressions see as `source`."""
    rate: "RateLimitItem | None"
    trust_profile_ids: bool
    """Only ever true for a source with a key."""
    _keys: tuple[bytes, ...] = field(repr=False)
    consents: tuple[str, ...] = ()
    """What a profile must have agreed to before anything is done with an event."""
    _exact: frozenset[str] = frozenset()
    _below: tuple[tuple[str, str], ...] = ()

    @property
    def tenant(self) -> str:
        """Whose data it is."""
        return self.file.tenant

    @property
    def enabled(self) -> bool:
        """Whether it takes events."""
        return self.file.enabled

    @property
    def is_public(self) -> bool:
        """Whether it names no key at all; one whose keys are not set is not public: it takes nothing."""
        return not self.file.keys

    def accepts(self, secret: str | None) -> bool:
        """Say, in a time that tells nothing, whether a secret opens this source; a public one needs none."""
        if self.is_public:
            return True
        given = (secret or "").encode("utf-8", "surrogatepass")
        found = False
        for key in self._keys:
            found |= hmac.compare_digest(given, key)
        return found

    def allows_origin(self, origin: str | None) -> bool:
        """Say whether a web origin may send; a client that names none is no browser, and may."""
        if self.file.origins is None or origin is None:
            return True
        origin = origin.lower()
        return origin in self._exact or any(
            origin.startswith(opening)
            and origin.endswith(ending)
            and _BELOW.fullmatch(origin, len(opening), len(origin) - len(ending))
            for opening, ending in self._below
        )


def compile_source(source_id: str, file: SourceFile, secrets: Secrets) -> Source:
    """Make the source that an entry describes; a key whose secret is not set is left out."""
    values = [secrets(key.name) if isinstance(key, Secret) else key for key in file.keys]
    origins = file.origins or []
    wild = [origin.split("*", 1) for origin in origins if "*" in origin]
    words: list[str] = [door for door in ("segment", "bizzkit", "orbee") if getattr(file, door) is not None]
    return Source(
        id=source_id,
        file=file,
        doors=frozenset(file.doors if file.doors is not None else ["track", "collect", *words]),
        doc={"id": source_id, "tenant": file.tenant, "about": file.about},
        rate=parse_rate(file.rate_limit) if file.rate_limit else None,
        trust_profile_ids=file.trust_profile_ids and bool(file.keys),
        _keys=tuple(value.encode() for value in values if value),
        consents=tuple(file.consents),
        _exact=frozenset(origin for origin in origins if "*" not in origin),
        _below=tuple((opening, ending) for opening, ending in wild),
    )


def check_sources(sources: Mapping[str, SourceFile], file: JsonFile, secrets: Secrets) -> Iterator[Problem]:
    """Find what is wrong or dangerous in sources that are valid each by itself."""
    taken: dict[tuple[str, ...], str] = {}
    for source_id, source in sources.items():
        at = ("sources", source_id)
        yield from _check_keys(source, file, at, secrets)
        if not source.keys:
            yield from _check_public(source, file, at)
        for kind, value in _public_names(source):
            other = taken.setdefault((kind, *value), source_id)
            if other != source_id:
                name = "/".join(value)
                yield file.problem(
                    (*at, kind), "S04", f"source '{other}' has '{name}' too", "Give each its own."
                )


def _check_keys(
    source: SourceFile, file: JsonFile, at: tuple[str, str], secrets: Secrets
) -> Iterator[Problem]:
    for index, key in enumerate(source.keys):
        place = (*at, "keys", index)
        if isinstance(key, str):
            yield file.problem(
                place, "S01", "a secret key stands in the file", 'Name it: {"secret": "SHOP_KEY"}.'
            )
        elif not secrets(key.name):
            message = f"the secret {key.name} is not set, so this key is not accepted"
            yield file.problem(place, "S03", message, f"Set {key.name} or {key.name}_FILE before the start.")


def _check_public(source: SourceFile, file: JsonFile, at: tuple[str, str]) -> Iterator[Problem]:
    dangers = {
        "trust_profile_ids": "is not granted to a source without a key: anyone could write to any profile",
        "answers_profile": "lets anyone with the id of a session read its whole profile",
        "debugger": "lets anyone see how events are processed",
    }
    for member, danger in dangers.items():
        if getattr(source, member):
            fix = 'Add "keys", or take it away.'
            yield file.problem((*at, member), "S02", f"'{member}' {danger}", fix)


def _public_names(source: SourceFile) -> Iterator[tuple[str, tuple[str, ...]]]:
    for key in source.segment.write_keys if source.segment else ():
        yield "segment", (key,)
    for key in source.bizzkit.keys if source.bizzkit else ():
        yield "bizzkit", (key,)
    if source.orbee:
        yield "orbee", (str(source.orbee.account), str(source.orbee.tracker))
