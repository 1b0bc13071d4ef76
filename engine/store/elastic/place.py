"""Where a cluster is and how to talk to it, from HEADRACE_STORE."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from headrace.engine.errors import StoreRefused

SCHEMES = ("elasticsearch", "elasticsearch+https")
DEFAULT_PORT = 9200
_PREFIX = re.compile(r"[a-z0-9][a-z0-9_.-]{0,60}")
_REFRESH = re.compile(r"(\d+(ms|s|m))|-1")
_SECONDS = re.compile(r"\d{1,3}(\.\d{1,3})?", re.ASCII)
_OPTIONS = ("api_key", "ca", "refresh", "replicas", "shards", "timeout", "verify")

LEAST_SECONDS, MOST_SECONDS = 0.2, 60.0
"""Bounds of `timeout`: below, a sound cluster seems to be away; above, nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True)
class Place:
    """A cluster: its nodes' addresses, who we are there, the prefix of our indices and how they are made.

    `refresh` is how long a search may lag behind a write, in Elasticsearch's words (`1s`). `ca` is a file with the
    certificates to trust; without it the system's are. `timeout` is how many seconds one request may take before it is
    given up and, where that is harmless, sent again; searches and work for operators may take longer. The usual 4 fit
    a commit, which begins attempts for 6, into the usual deadline of a request, 10.
    """

    hosts: tuple[str, ...]
    prefix: str
    user: str | None = None
    password: str | None = None
    api_key: str | None = None
    ca: Path | None = None
    verify: bool = True
    shards: int = 1
    replicas: int | None = None
    refresh: str = "1s"
    timeout: float = 4.0

    def shown(self) -> str:
        """Return the place without its secrets."""
        return f"{', '.join(self.hosts)} ({self.prefix}-*)"


def read_place(url: str) -> Place:
    """Read `elasticsearch://[user:password@]host[:port][,host:port …]/prefix?option=…`.

    `elasticsearch+https:` is the same over TLS. Options: `api_key`, `ca` (a file), `verify` (false: no check of the
    certificate), `shards`, `replicas`, `refresh`, `timeout` (seconds). Raises StoreRefused, which says what is wrong.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise _refused(f"it cannot be read as a URL ({error})") from None
    if parts.scheme not in SCHEMES:
        raise _refused(f"it should begin with {' or '.join(f'{scheme}://' for scheme in SCHEMES)}")
    user, password, hosts = _authority(parts.netloc)
    prefix = parts.path.strip("/") or "headrace"
    if not _PREFIX.fullmatch(prefix):
        raise _refused(
            f"{prefix!r} cannot begin the names of indices: use small letters, digits, '-', '_' and '.'"
        )
    options = _options(parts.query)
    scheme = "https" if parts.scheme.endswith("+https") or "ca" in options else "http"
    if user is not None and "api_key" in options:
        raise _refused("give a user or an api_key, not both")
    ca = Path(options["ca"]) if "ca" in options else None
    if ca is not None and not ca.is_file():
        raise _refused(f"ca: there is no file {ca}")
    return Place(
        hosts=tuple(f"{scheme}://{host}" for host in hosts),
        prefix=prefix,
        user=user,
        password=password,
        api_key=options.get("api_key"),
        ca=ca,
        verify=_yes(options.get("verify", "true"), "verify"),
        shards=_number(options.get("shards", "1"), "shards", 1),
        replicas=_number(options["replicas"], "replicas", 0) if "replicas" in options else None,
        refresh=_refresh(options.get("refresh", "1s")),
        timeout=_seconds(options.get("timeout", "4")),
    )


def _authority(netloc: str) -> tuple[str | None, str | None, list[str]]:
    """Return user, password and `host:port` of every node."""
    who, at, names = netloc.rpartition("@")
    user, colon, password = who.partition(":")
    if at and not (user and colon):
        raise _refused("before the @ there should be user:password")
    hosts = []
    for name in names.split(","):
        try:
            one = urlsplit(f"//{name.strip()}")
            host, port = one.hostname, one.port or DEFAULT_PORT
        except ValueError:
            host = None
        if not host:
            raise _refused(f"{name!r} is no host:port")
        hosts.append(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    return (unquote(user), unquote(password), hosts) if at else (None, None, hosts)


def _options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in _OPTIONS:
            raise _refused(f"there is no option {name!r}. There are: {', '.join(_OPTIONS)}")
    return options


def _number(text: str, name: str, least: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= 1024):
        raise _refused(f"{name} should be a whole number from {least} to 1024, not {text!r}")
    return int(text)


def _refresh(text: str) -> str:
    if not _REFRESH.fullmatch(text):
        raise _refused(f"refresh should be a time such as 1s or 500ms, not {text!r}")
    return text


def _seconds(text: str) -> float:
    if not (_SECONDS.fullmatch(text) and LEAST_SECONDS <= float(text) <= MOST_SECONDS):
        raise _refused(f"timeout should be seconds from {LEAST_SECONDS:g} to {MOST_SECONDS:g}, not {text!r}")
    return float(text)


def _yes(text: str, name: str) -> bool:
    if text not in ("true", "false"):
        raise _refused(f"{name} should be true or false, not {text!r}")
    return text == "true"


def _refused(what: str) -> StoreRefused:
    # The URL is not shown: it holds a password.
    return StoreRefused(
        f"HEADRACE_STORE: {what}. An example: elasticsearch://user:password@host:9200/headrace?replicas=1"
    )
