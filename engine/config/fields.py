"""Field types of a plugin's config, compiled at load.

Each type is checked and compiled while pydantic validates the config, so that a wrong template is reported at its
place with all other problems, and nothing is compiled when an event comes. `step.value(field)` gives the value.

    Text          a template; the value is text
    Url, Header   a template whose values are encoded for a URL, or may not break out of a header
    Value[T]      a literal T, or a template that gives one
    Body          any JSON whose texts are templates
    Expression    a condition or formula
    ReadPath      where a node reads       WritePath   where a node writes
    SegmentName, EventName, SourceName, WorkflowName    names that are declared in the workspace
    Secret        {"secret": "NAME"}, read from the environment
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from types import UnionType
from typing import Annotated, Any, ClassVar, Generic, TypeVar, Union, cast, get_args, get_origin

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

from headrace.engine.errors import ExpressionError, NodeError, PathError
from headrace.engine.language import expression, template
from headrace.engine.language.scope import Scope
from headrace.engine.suggest import did_you_mean
from headrace.engine.writing import path

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


def text_schema(kind: str, about: str, **rules: str) -> dict[str, Any]:
    """Return the JSON Schema of a type whose values are texts; its page shows the kind, a word or two."""
    return {"type": "string", "description": about, "x-kind": kind, **rules}


class Compiled(Generic[T_co]):
    """A config field that was compiled at load.

    `source` is what stands in the file; `evaluate` takes a scope and gives the field's value for one event. It is a
    function that was made for this field, not a method, so that nothing stands between a plugin and its value.
    """

    __slots__ = ("evaluate", "source")
    json_schema: ClassVar[Mapping[str, Any]] = {"type": "string"}

    def __init__(self, source: Any, evaluate: Callable[[Scope], T_co]) -> None:
        self.source = source
        self.evaluate = evaluate

    def reads(self) -> frozenset[tuple[str, ...]]:
        """Return the dotted paths that the field reads, for lint."""
        return frozenset()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.source!r})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.source == getattr(other, "source", None)

    def __hash__(self) -> int:
        return hash(str(self.source))

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else _text_field(cls, value),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda field: field.source),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return dict(cls.json_schema)


def _text_field(cls: type[Compiled[Any]], value: object) -> Compiled[Any]:
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "Input should be a text")
    return compiling(lambda: cls(value))  # type: ignore[call-arg]


def compiling(make: Callable[[], T]) -> T:
    """Run a compilation inside validation: its errors become problems at the field's place."""
    try:
        return make()
    except ExpressionError as error:
        place = f"line {error.line}, column {error.column}" if error.line > 1 else f"column {error.column}"
        raise PydanticCustomError(
            "expression", "{message} ({place})", {"message": error.message, "place": place, "fix": error.fix}
        ) from None
    except PathError as error:
        raise PydanticCustomError("path", "{message}", {"message": str(error), "fix": ""}) from None


class Text(Compiled[str]):
    """A template whose value is text."""

    __slots__ = ("_reads",)
    json_schema: ClassVar[Mapping[str, Any]] = text_schema("template", "Text; {{ … }} is filled in.")

    def __init__(self, source: str) -> None:
        compiled = self._compile(source)
        super().__init__(source, compiled.render_text)
        self._reads = compiled.reads

    def _compile(self, source: str) -> template.Template:
        return template.compile_template(source)

    def reads(self) -> frozenset[tuple[str, ...]]:
        """Return the dotted paths that the template reads."""
        return self._reads


class Url(Text):
    """A template of a URL: values are encoded and cannot change scheme, host or port."""

    __slots__ = ()

    def _compile(self, source: str) -> template.Template:
        return template.compile_url_template(source)


class Header(Text):
    """A template of a header's value or a mail's subject: a line break fails the node."""

    __slots__ = ()

    def _compile(self, source: str) -> template.Template:
        return template.compile_header_template(source)


class Expression(Compiled[Any]):
    """A condition or formula, None where something is missing; `test` gives its truth."""

    __slots__ = ("_reads",)
    json_schema: ClassVar[Mapping[str, Any]] = text_schema(
        "expression", "An expression, such as event.properties.total >= 100."
    )

    def __init__(self, source: str) -> None:
        compiled = expression.compile_expression(source)
        super().__init__(source, compiled.evaluate)
        self._reads = compiled.reads

    def test(self, scope: Scope) -> bool:
        """Say whether the value is true: not false, null, missing, 0 or empty."""
        return bool(self.evaluate(scope))

    def reads(self) -> frozenset[tuple[str, ...]]:
        """Return the dotted paths that the expression reads."""
        return self._reads


class ReadPath(Compiled[Any]):
    """Where a node reads: `event.properties.items`; None where nothing stands."""

    __slots__ = ("path",)
    json_schema: ClassVar[Mapping[str, Any]] = text_schema("path", "A path, such as event.properties.items.")

    def __init__(self, source: str) -> None:
        compiled = self.path = path.compile_path(source)
        root, read = compiled.root, compiled.reader

        def evaluate(scope: Scope) -> Any:
            value = read(getattr(scope, root))
            return None if value is path.MISSING else value

        super().__init__(source, evaluate)

    def reads(self) -> frozenset[tuple[str, ...]]:
        """Return the path itself."""
        return frozenset(((self.path.root, *self.path.keys),))


class WritePath(Compiled[path.WritePath]):
    """Where a node writes: `profile.traits.email`; `changes` are its path's, at hand when a journal is applied."""

    __slots__ = ("changes", "path")
    json_schema: ClassVar[Mapping[str, Any]] = text_schema(
        "path to write", "A path that may be written, such as profile.traits.email."
    )

    def __init__(self, source: str) -> None:
        compiled = self.path = path.compile_write_path(source)
        self.changes = compiled.changes
        super().__init__(source, lambda _: compiled)


class Value(Compiled[T]):
    """A literal T, or a template that gives one; a lone `{{ … }}` keeps its type."""

    __slots__ = ("_reads",)

    def __init__(self, source: Any, adapter: TypeAdapter[T], plain: frozenset[type] = frozenset()) -> None:
        compiled = template.compile_template(source) if isinstance(source, str) else None
        if compiled is None or compiled.is_literal:
            literal = adapter.validate_python(source)
            super().__init__(source, lambda _: literal)
        else:
            super().__init__(source, _typed(source, compiled.render, adapter, plain))
        self._reads = compiled.reads if compiled else frozenset()

    def reads(self) -> frozenset[tuple[str, ...]]:
        """Return the dotted paths that the template reads."""
        return self._reads

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        (item,) = get_args(source) or (Any,)
        adapter: TypeAdapter[Any] = TypeAdapter(item, config={"strict": True, "allow_inf_nan": False})
        of_union = get_args(item) if get_origin(item) in (Union, UnionType) else (item,)
        plain = frozenset(kind for kind in of_union if kind in (str, int, float, bool))

        def validate(value: object, check: core_schema.ValidatorFunctionWrapHandler) -> "Value[Any]":
            if isinstance(value, Value):
                return value
            if not (isinstance(value, str) and ("{{" in value or "{%" in value)):
                check(value)
            return compiling(lambda: cls(value, adapter, plain))

        return core_schema.no_info_wrap_validator_function(
            validate,
            core_schema.lax_or_strict_schema(handler(item), handler(item), strict=True),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda field: field.source),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        literal = handler(schema["schema"])
        if not literal:
            return {"x-kind": "any JSON or template"}
        made = text_schema("template", "A template that gives the value.", pattern=r"\{[{%]")
        return {"anyOf": [literal, made]}


def _typed(
    source: str, render: Callable[[Scope], Any], adapter: TypeAdapter[T], plain: frozenset[type]
) -> Callable[[Scope], T]:
    """Return what renders a template and raises NodeError when it gives something of another type than T.

    A value of a `plain` type, one that T names itself, needs no look by pydantic, if it is a finite number.
    """

    def evaluate(scope: Scope) -> T:
        value = render(scope)
        if type(value) in plain and (type(value) is not float or isfinite(value)):
            return cast("T", value)
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            reason = error.errors(include_url=False)[0]["msg"]
            raise NodeError(f"{source} gave {_short(value)}: {reason}") from None

    return evaluate


class Body(Compiled[Any]):
    """Any JSON; every text in it is a template. It is built from values, never by text."""

    __slots__ = ("_reads",)
    json_schema: ClassVar[Mapping[str, Any]] = {"x-kind": "JSON of templates"}

    def __init__(self, source: Any) -> None:
        reads: set[tuple[str, ...]] = set()
        super().__init__(source, _compile_body(source, reads))
        self._reads = frozenset(reads)

    def reads(self) -> frozenset[tuple[str, ...]]:
        """Return the dotted paths that its templates read."""
        return self._reads

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else compiling(lambda: cls(value)),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda field: field.source),
        )


def _compile_body(source: Any, reads: set[tuple[str, ...]]) -> Callable[[Scope], Any]:
    if isinstance(source, str):
        text = template.compile_template(source)
        reads |= text.reads
        return text.render
    if isinstance(source, dict):
        members = [(key, _compile_body(value, reads)) for key, value in source.items()]
        return lambda scope: {key: build(scope) for key, build in members}
    if isinstance(source, list):
        items = [_compile_body(value, reads) for value in source]
        return lambda scope: [build(scope) for build in items]
    return lambda _: source


@dataclass(frozen=True)
class Names:
    """The names that a workspace declares, given to validation as its context; None: not known here."""

    segments: frozenset[str] | None = None
    event_types: frozenset[str] | None = None
    sources: frozenset[str] | None = None
    workflows: frozenset[str] | None = None
    computed: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Declared:
    """Marks a text as a name that the workspace must declare; `kind` is the member of `Names`."""

    kind: str
    singular: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.with_info_after_validator_function(self._check, handler(source))

    def _check(self, value: str, info: core_schema.ValidationInfo) -> str:
        known = getattr(info.context, self.kind, None) if isinstance(info.context, Names) else None
        if known is not None and value not in known:
            raise PydanticCustomError(
                f"unknown_{self.singular}",
                "no {kind} '{value}'",
                {
                    "kind": self.singular.replace("_", " "),
                    "value": value,
                    "fix": did_you_mean(value, known),
                },
            )
        return value


SegmentName = Annotated[str, Declared("segments", "segment")]
EventName = Annotated[str, Field(min_length=1, max_length=128), Declared("event_types", "event_type")]
SourceName = Annotated[str, Declared("sources", "source")]
WorkflowName = Annotated[str, Declared("workflows", "workflow")]


class SecretError(NodeError):
    """A secret was evaluated like other fields: `step.value` catches this and reads it from the environment."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the secret {name} is read by step.value only")
        self.name = name


class Secret(Compiled[str]):
    """A secret by name, `{"secret": "CRM_TOKEN"}`; its value comes from the environment and is never shown."""

    __slots__ = ("name",)
    json_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {"secret": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}},
        "required": ["secret"],
        "additionalProperties": False,
    }

    def __init__(self, source: Mapping[str, str]) -> None:
        self.name = source["secret"]
        super().__init__(source, self._refuse)

    def _refuse(self, _: Scope) -> str:
        raise SecretError(self.name)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        def validate(value: object) -> "Secret":
            if isinstance(value, Secret):
                return value
            if not (
                isinstance(value, dict) and list(value) == ["secret"] and isinstance(value["secret"], str)
            ):
                raise PydanticCustomError("secret", 'Input should be an object like {"secret": "NAME"}')
            return cls(value)

        return core_schema.no_info_plain_validator_function(
            validate,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda field: field.source),
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
