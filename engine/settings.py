"""Every setting, declared once: name, default, what is allowed, meaning."""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError

from headrace.engine.calls.address import read_allowed
from headrace.engine.calls.mail import read_smtp
from headrace.engine.suggest import did_you_mean
from headrace.engine.variables import (
    PREFIX,
    Origin,
    SettingsError,
    allowed,
    collect,
    extra,
    is_secret,
    problem,
    shown,
    unknown,
    variable,
)

MIB = 1 << 20
CLUSTERS = ("elasticsearch://", "elasticsearch+https://")
"""How the URL of a store in a cluster begins."""


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        near = did_you_mean(name, available_timezones())
        raise ValueError(near if near.startswith("Did") else "") from None
    return name


def _store(url: str) -> str:
    if not url.startswith(("sqlite:", *CLUSTERS)) or ":memory:" in url:
        raise ValueError("What is kept in memory would be lost." if ":memory:" in url else "")
    return url


def _host(name: str) -> str:
    if not name or any(sign.isspace() or sign in "/?#@" for sign in name):
        raise ValueError
    return name


def _token(token: str | SecretStr) -> str:
    text = token.get_secret_value() if isinstance(token, SecretStr) else token
    if not text.isascii() or not text.isprintable() or " " in text or not text:
        raise ValueError
    return text


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text))


def _smtp(url: str) -> str:
    if url:
        read_smtp(url)
    return url


def _address(text: str) -> str:
    read_allowed(text)
    return text


def _parts(value: object) -> object:
    """Split a comma-separated text; anything else is left to the field's type."""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.split(",") if part.strip()]


Count = Annotated[int, Field(ge=1)]
Days = Annotated[int, Field(ge=0, le=36_500)]
Seconds = Annotated[float, Field(ge=0.1, le=3600)]
Token = Annotated[SecretStr, BeforeValidator(_token)]
Network = Annotated[str, BeforeValidator(_network)]
AllowedAddress = Annotated[str, BeforeValidator(_address)]


def _setting(default: object, about: str, group: str, allowed: str = "", *, secret: bool = False) -> Any:
    """Declare a setting; `allowed` may be left out where the type says it.

    A `secret` one that is not secret by its type holds a password in places: it may be in a file, and is shown without.
    """
    extra: Any = {"group": group, "allowed": allowed, "secret": "yes" if secret else ""}
    return Field(default, description=about, json_schema_extra=extra, repr=not secret)


_TOKENS = "printable ASCII without spaces"
_WHERE, _SERVER, _READING = "Where things are", "The server", "Reading and debugging"
_LIMITS, _KEPT, _LOGS = "Limits", "How long things are kept", "Logs and traces"
_CALLS = "Outgoing calls"


class Settings(BaseModel):
    """All settings of one process; made by `Settings.load`, never changed afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workspace: Path = _setting(Path(), "The workspace: the folder with `sources.json`.", _WHERE, "a folder")
    data: Path = _setting(Path("data"), "The folder for everything that Headrace writes.", _WHERE, "a folder")
    store: Annotated[str, BeforeValidator(_store)] = _setting(
        "sqlite:",
        "Where events, sessions and profiles are kept. `sqlite:` alone is `headrace.db` in the data folder; "
        "[Elasticsearch](elasticsearch.md) tells how a cluster is named.",
        _WHERE,
        "sqlite:, sqlite:PATH, elasticsearch://HOST:PORT/PREFIX or elasticsearch+https://…",
        secret=True,
    )
    time_zone: Annotated[str, BeforeValidator(_zone)] = _setting(
        "UTC",
        "The zone of wall-clock times, where a workflow names none.",
        _WHERE,
        "an IANA time zone, such as UTC or Europe/Copenhagen",
    )

    host: Annotated[str, BeforeValidator(_host)] = _setting(
        "127.0.0.1",
        "The address that the server listens on; `0.0.0.0` is all.",
        _SERVER,
        "an address or a host name",
    )
    port: Annotated[int, Field(ge=0, le=65_535)] = _setting(8080, "The port; 0 takes a free one.", _SERVER)
    trusted_proxies: Annotated[tuple[Network, ...], BeforeValidator(_parts)] = _setting(
        (),
        "Proxies whose `X-Forwarded-For` is believed. Empty: none, the client is who connects.",
        _SERVER,
        "addresses or networks with commas between, such as 10.0.0.0/8",
    )
    stop_grace_seconds: Seconds = _setting(
        20.0, "How long a stop waits for requests that are under way.", _SERVER
    )

    admin_token: Token | None = _setting(
        None,
        "The token that may read and erase. With SQLite one is made, and kept in the data folder; with "
        "another store there is no reading without one.",
        _READING,
        _TOKENS,
    )
    read_tokens: Annotated[tuple[Token, ...], BeforeValidator(_parts)] = _setting(
        (), "Tokens that may read only.", _READING, f"{_TOKENS}, with commas between"
    )
    debugger: bool = _setting(
        default=False,
        about="Answers with `debugging` when a request asks for it, for every source.",
        group=_READING,
    )

    body_limit_bytes: Count = _setting(
        MIB, "Largest body of a request, after it is unpacked. Above it 413.", _LIMITS
    )
    max_events_per_request: Count = _setting(1_000, "Most events in one request. Above it 413.", _LIMITS)
    max_requests_in_flight: Count = _setting(1_000, "Most requests at work at once. Above it 503.", _LIMITS)
    max_bytes_in_flight: Count = _setting(
        64 * MIB, "Most bytes of bodies held at once. Above it 503.", _LIMITS
    )
    body_timeout_seconds: Seconds = _setting(10.0, "A body that takes longer to arrive ends in 408.", _LIMITS)
    request_deadline_seconds: Seconds = _setting(
        10.0, "A request that waits longer for others of its profile, or for the store, ends in 503.", _LIMITS
    )
    waiters_per_profile: Count = _setting(
        100, "Most requests that wait for one profile. Above it 503.", _LIMITS
    )

    allow_addresses: Annotated[tuple[AllowedAddress, ...], BeforeValidator(_parts)] = _setting(
        (),
        "What may be called besides public addresses. A host with its port opens that one, whatever its address is; "
        "[Outgoing calls](security.md#outgoing-calls) tells what is refused.",
        _CALLS,
        "networks, or hosts with a port, with commas between, such as 10.1.0.0/16 or crm.internal:8443",
    )
    call_answer_limit_bytes: Count = _setting(
        MIB, "Largest answer to a call, after it is unpacked. Of a larger one there is no body.", _CALLS
    )
    calls_per_host: Annotated[int, Field(ge=1, le=1_000)] = _setting(
        64, "Most connections to one host at once. Further calls wait, within their timeout.", _CALLS
    )

    outbox: bool = _setting(
        default=True,
        about="Effects are sent by this process. With `off` another process on the same store has to send them.",
        group=_CALLS,
    )
    outbox_attempts: Annotated[int, Field(ge=1, le=1_000)] = _setting(
        20, "How often an effect is tried before it is dead.", _CALLS
    )
    outbox_max_age_hours: Annotated[int, Field(ge=1, le=8_760)] = _setting(
        72, "An effect that could not be sent within these hours is dead.", _CALLS
    )
    outbox_per_host: Annotated[int, Field(ge=1, le=1_000)] = _setting(
        16, "Most effects that are sent to one host at once.", _CALLS
    )
    outbox_lease_seconds: Annotated[float, Field(ge=1, le=3600)] = _setting(
        120.0,
        "How long an effect belongs to the process that took it; after a crash it is sent again then. "
        "An attempt takes at most 0.6 of it, whatever its `timeout_seconds` says.",
        _CALLS,
    )

    timers: bool = _setting(
        default=True,
        about="Runs that wait go on in this process. With `off` another process on the same store has to do it.",
        group=_CALLS,
    )
    timers_lease_seconds: Annotated[float, Field(ge=1, le=3600)] = _setting(
        60.0,
        "How long a timer belongs to the process that took it; after a crash another one takes it then.",
        _CALLS,
    )

    segments_sweep_seconds: Annotated[float, Field(ge=60, le=86_400)] = _setting(
        3600.0,
        "How often profiles are looked through for segments that time alone changes, such as `within='30d'`.",
        _CALLS,
    )

    smtp: Annotated[str, BeforeValidator(_smtp)] = _setting(
        "",
        "The server that takes mails. `smtp://` means STARTTLS, `smtps://` TLS from the first byte, `smtp+plain://` no "
        "TLS. Empty: mails wait.",
        _CALLS,
        "a URL such as smtp://headrace@mail.example:587, without a password",
    )
    smtp_password: SecretStr | None = _setting(
        None, "The password for it, where its URL names a user.", _CALLS, "any text"
    )
    mail_from: str = _setting(
        "",
        "The sender of mails that name none.",
        _CALLS,
        "a mail address, such as Shop <shop@shop.example>",
    )

    dedup_days: Annotated[int, Field(ge=1, le=28)] = _setting(
        28, "An event sent again within these days is known as a duplicate.", _KEPT
    )
    keep_events_days: Days = _setting(0, "Days that events are kept; 0 = for ever.", _KEPT)
    keep_sessions_days: Days = _setting(
        0, "Days that sessions are kept after their last event; 0 = for ever.", _KEPT
    )
    keep_failed_days: Days = _setting(30, "Days that failed events are kept; 0 = for ever.", _KEPT)
    keep_effects_days: Days = _setting(
        30,
        "Days that effects are kept after they were made, once they are sent or dead; 0 = for ever.",
        _KEPT,
    )
    keep_timers_days: Days = _setting(
        30,
        "Days that timers are kept after they were fired, cancelled or given up; 0 = for ever.",
        _KEPT,
    )
    keep_traces_days: Days = _setting(7, "Days that traces are kept; 0 = for ever.", _KEPT)

    trace_sample: Annotated[float, Field(ge=0, le=1)] = _setting(
        0.0, "The share of events that are traced without being asked; 0.01 is one in a hundred.", _LOGS
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", "The least level that is logged.", _LOGS
    )
    log_format: Literal["json", "console"] = _setting(
        "json", "One JSON object a line, or text to read.", _LOGS
    )
    crash_at: str = _setting(
        "",
        "For tests of recovery: the named point at which the process ends at once.",
        _LOGS,
        "a crash point",
    )

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)
    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @classmethod
    def load(cls, environ: Mapping[str, str], **overrides: object) -> Self:
        """Make the settings from variables (`os.environ`) and what the command line says.

        `overrides` are by field name and win; None is no override. An empty variable counts as not set.
        Raises SettingsError with every problem at once.
        """
        values, sources, problems = collect(cls.model_fields, environ, overrides)
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            problems += [
                problem(cls.model_fields, detail, sources) for detail in error.errors(include_url=False)
            ]
            raise SettingsError(problems, unknown(cls.model_fields, environ)) from None
        if 0 < settings.keep_events_days < settings.dedup_days:
            problems.append(
                f"{PREFIX}KEEP_EVENTS_DAYS={settings.keep_events_days}: must be 0 or at least "
                f"{PREFIX}DEDUP_DAYS ({settings.dedup_days}), or duplicates would not be known."
            )
        if problems:
            raise SettingsError(problems, unknown(cls.model_fields, environ))
        settings._sources = sources
        settings._warnings = tuple(unknown(cls.model_fields, environ))
        return settings

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence for each `HEADRACE_` variable that is no setting."""
        return self._warnings

    def origins(self) -> list[Origin]:
        """Return every setting with its value, secrets hidden, and where that came from."""
        return [
            Origin(name, variable(name), shown(getattr(self, name)), self._sources.get(name, "default"))
            for name in type(self).model_fields
        ]


def settings_page() -> str:
    """Return the reference of all settings as Markdown: a table for each group."""
    lines = [
        "# Settings",
        "",
        "Every setting is an environment variable. An option of the same name wins.",
        "An empty variable counts as not set. `headrace config` shows each value and where it came from.",
        "A secret may also be in a file: `HEADRACE_ADMIN_TOKEN_FILE` names it. So may the store's URL.",
    ]
    group = ""
    for name, field in Settings.model_fields.items():
        if extra(field, "group") != group:
            group = extra(field, "group")
            lines += [
                "",
                f"## {group}",
                "",
                "| variable | default | allowed | meaning |",
                "|---|---|---|---|",
            ]
        default = shown(field.default)
        usual = "" if is_secret(field) or not default else f"`{default}`"
        lines.append(f"| `{variable(name)}` | {usual} | {allowed(field)} | {field.description} |")
    return "\n".join(lines) + "\n"
