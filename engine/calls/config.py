"""The config of nodes that call the world, inline or deferred."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import AfterValidator, ConfigDict, Field, GetCoreSchemaHandler, model_validator
from pydantic_core import core_schema

from headrace.engine.calls.address import read_url
from headrace.engine.calls.call import MOST_HEADERS, MOST_SECONDS, USUAL_SECONDS, header_name
from headrace.engine.config.base import Config
from headrace.engine.config.fields import Body, Compiled, Header, Secret, Text, Url
from headrace.engine.config.names import Named
from headrace.engine.errors import CallError


@dataclass(frozen=True)
class OrSecret:
    """Marks a field that may be a text of some type, or a secret by name; a problem is that of what was meant."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        union = handler(source)
        text, secret = (choice for choice in union["choices"])
        return core_schema.tagged_union_schema(
            {"text": text, "secret": secret},
            lambda value: "secret" if isinstance(value, Mapping | Secret) else "text",
        )


def _header_name(name: str) -> str:
    try:
        return header_name(name)
    except CallError as error:
        raise ValueError(error.reason) from None


def _callable(url: Url | Secret) -> Url | Secret:
    """Raise ValueError for a URL, known at load, that would never be called."""
    if isinstance(url, Url) and "{" not in url.source:
        try:
            read_url(url.source)
        except CallError as error:
            raise ValueError(error.reason) from None
    return url


UrlOrSecret = Annotated[Url | Secret, OrSecret(), AfterValidator(_callable)]
HeaderOrSecret = Annotated[Header | Secret, OrSecret()]
TextOrSecret = Annotated[Text | Secret, OrSecret()]
HeaderName = Annotated[str, AfterValidator(_header_name)]


class BasicAuth(Config):
    """A user and a password."""

    user: TextOrSecret = Field(description="The user.", examples=["headrace"])
    password: Secret = Field(description="The password.", examples=[{"secret": "CRM_PASSWORD"}])


class HmacAuth(Config):
    """A signature of the body in a header of its own."""

    key: Secret = Field(description="The key, used as it is.", examples=[{"secret": "CRM_KEY"}])
    header: HeaderName = Field("x-signature", description="The header that holds it, in hex.")
    algorithm: Literal["sha256", "sha1", "sha512"] = Field("sha256", description="The hash.")
    prefix: Annotated[str, Named("[!-~]{0,40}", "have at most 40 characters of ASCII, without blanks")] = (
        Field("", description="What stands before it, such as `sha256=`.")
    )


class Auth(Config):
    """Who calls: one of the three."""

    basic: BasicAuth | None = Field(None, description="A user and a password.")
    bearer: Secret | None = Field(None, description="A token.", examples=[{"secret": "CRM_TOKEN"}])
    hmac: HmacAuth | None = Field(None, description="A signature of the body in a header of its own.")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(way is not None for way in (self.basic, self.bearer, self.hmac)) != 1:
            raise ValueError("should have one of basic, bearer, hmac")
        return self


class TlsConfig(Config):
    """How the other side's certificate is checked."""

    verify: bool = Field(default=True, description="Off: any certificate will do. For tests only.")
    ca: str | None = Field(None, description="A file of certificates to trust, instead of the usual ones.")


class Values(Protocol):
    """What gives the values of fields for an event: a step."""

    def value(self, field: Compiled[Any]) -> Any:
        """Return the value of a field."""
        ...


class CallConfig(Config):
    """What a node calls, and how. `call(step)` gives the call as JSON, in which secrets are only named."""

    model_config = ConfigDict(serialize_by_alias=True)

    url: UrlOrSecret = Field(
        description="Where to. Scheme, host and port are written out; values after them are encoded. "
        "A URL that is itself a secret is named.",
        examples=["https://crm.example/people?mail={{ profile.traits.email }}"],
    )
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] | None = Field(
        None, description="The method. Left out: `POST` with a body, `GET` without one."
    )
    headers: dict[HeaderName, HeaderOrSecret] = Field(
        {},
        max_length=MOST_HEADERS,
        description="Headers by name: templates, or secrets by name.",
        examples=[{"x-api-key": {"secret": "CRM_KEY"}}],
    )
    body: Body = Field(
        Body(None),
        description="The body: any JSON, whose texts are templates.",
        examples=[{"mail": "{{ profile.traits.email }}"}],
    )
    encoding: Literal["json", "form", "text"] = Field(
        "json", alias="as", description="How the body is sent: JSON, the fields of a form, or a text."
    )
    auth: Auth | None = Field(None, description="Who calls.")
    sign: list[Secret] = Field(
        [],
        max_length=5,
        description="Sign as Standard Webhooks do, with each of these secrets: two while one replaces another.",
        examples=[[{"secret": "HOOK_NEW"}, {"secret": "HOOK_OLD"}]],
    )
    timeout_seconds: float = Field(
        USUAL_SECONDS, gt=0, le=MOST_SECONDS, description="Seconds that the call may take in all."
    )
    tls: TlsConfig | None = Field(None, description="How the other side's certificate is checked.")

    def call(self, step: Values) -> dict[str, Any]:
        """Return the call for an event as JSON (see `headrace.engine.calls.call`); raises NodeError as templates do."""
        call: dict[str, Any] = {"method": self.method, "url": _value(step, self.url)}
        body = step.value(self.body)
        if self.method is None:
            call["method"] = "GET" if body is None else "POST"
        if self.headers:
            call["headers"] = {name: _value(step, value) for name, value in self.headers.items()}
        if body is not None:
            call |= {"body": body, "as": self.encoding}
        if self.auth is not None:
            call["auth"] = _auth(step, self.auth)
        if self.sign:
            call["sign"] = [dict(secret.source) for secret in self.sign]
        if self.tls is not None:
            call["tls"] = {"verify": self.tls.verify, "ca": self.tls.ca}
        call["timeout_seconds"] = self.timeout_seconds
        return call


def _value(step: Values, field: Compiled[Any]) -> Any:
    """Return a field's value, a secret as its name: what is kept must not hold it."""
    return dict(field.source) if isinstance(field, Secret) else step.value(field)


def _auth(step: Values, auth: Auth) -> dict[str, Any]:
    if auth.basic is not None:
        user, password = _value(step, auth.basic.user), _value(step, auth.basic.password)
        return {"basic": {"user": user, "password": password}}
    if auth.hmac is not None:
        way = auth.hmac
        made = {"header": way.header, "algorithm": way.algorithm, "prefix": way.prefix}
        return {"hmac": {"key": _value(step, way.key), **made}}
    return {"bearer": _value(step, auth.bearer) if auth.bearer else None}
