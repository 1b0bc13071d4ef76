"""Which addresses may be called, however they are written.

Only addresses of the public internet may be. An address that hides in another one, as IPv6 has many ways to, counts as
both. What an operator names (`HEADRACE_ALLOW_ADDRESSES`) may be called too.
"""

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from headrace.engine.errors import CallError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

URL_CHARS = 8_192
"""Longest URL that is called."""

SETTING = "HEADRACE_ALLOW_ADDRESSES"

_KINDS = {
    "of this host": "0.0.0.0/8 ::/128",
    "a loopback address": "127.0.0.0/8 ::1/128",
    "a private address": "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7 fec0::/10",
    "a link-local address, where clouds keep metadata": "169.254.0.0/16 fe80::/10",
    "a metadata address of a cloud": "168.63.129.16/32",
    "a shared address": "100.64.0.0/10",
    "a multicast address": "224.0.0.0/4 ff00::/8",
    "an address for documentation": "192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32 3fff::/20",
    "an address for benchmarks": "198.18.0.0/15",
    "a 6to4 address": "192.88.99.0/24 2002::/16",
    "a Teredo address": "2001::/32",
    "a reserved address": "192.0.0.0/24 240.0.0.0/4 2001::/23",
}
_REFUSED = [
    (ipaddress.ip_network(network), kind) for kind, networks in _KINDS.items() for network in networks.split()
]
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_ISATAP = frozenset((0x00005EFE, 0x02005EFE))

_URL = re.compile(r"(https?)://(\[[^\]/?#]*\]|[^:/?#\[\]]*)(?::(\d{0,5}))?([/?#].*)?", re.IGNORECASE)
_NOT_IN_A_URL = re.compile(r"[\x00-\x20\x7f\\]")
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
NAME_CHARS = 253
_NUMBER = re.compile(r"0x[0-9a-f]*|\d+")
_PLAIN_V4 = re.compile(r"(?:(?:0|[1-9]\d{0,2})\.){3}(?:0|[1-9]\d{0,2})")


class Target(NamedTuple):
    """Where a call goes: scheme, host (lower case, ASCII, without brackets or trailing dot), port, path and query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        """The URL in the one spelling that is sent."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"http": 80, "https": 443}[self.scheme]
        return f"{self.scheme}://{host}{'' if self.port == usual else f':{self.port}'}{self.path}"

    @property
    def place(self) -> str:
        """Host and port, to name in a message: a URL's path may hold what should not be shown."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_url(text: str) -> Target:
    """Return where a URL leads. Raises CallError, which never can be sent, for one that is refused in itself."""
    if len(text) > URL_CHARS:
        raise CallError(f"the URL is longer than {URL_CHARS:,} characters")
    if bad := _NOT_IN_A_URL.search(text):
        raise CallError(f"{bad[0]!r} cannot stand in a URL")
    found = _URL.fullmatch(text)
    if found is None or "@" in (found[2] or ""):
        authority = re.match(r"[^/?#]*//([^/?#]*)", text)
        if authority and "@" in authority[1]:
            raise CallError("a URL may not hold a name and password; use `auth`")
        raise CallError("a URL must begin with http:// or https:// and a host")
    scheme, host, port, rest = found[1].lower(), found[2], found[3], found[4] or "/"
    number = int(port) if port else {"http": 80, "https": 443}[scheme]
    if not 0 < number < 65_536:
        raise CallError(f"{number} is no port")
    return Target(scheme, read_host(host), number, _path(rest))


def read_host(host: str) -> str:
    """Return a host in its one spelling; raises CallError for a strange one, even of an address that may be called."""
    if host.startswith("["):
        try:
            return str(ipaddress.IPv6Address(host[1:-1] if "%" not in host else ""))
        except ValueError:
            raise CallError(f"{host} is no IPv6 address") from None
    name = host if host.isascii() else _ascii(host)
    name = name.lower().removesuffix(".")
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        try:
            if _PLAIN_V4.fullmatch(name):
                return str(ipaddress.IPv4Address(name))
        except ValueError:
            pass
        raise CallError(f"the host {host} is an address in a strange spelling; write it like 192.0.2.1")
    if len(name) > NAME_CHARS or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise CallError(f"{host[:100]!r} is no host")
    return name


def _ascii(host: str) -> str:
    import idna  # noqa: PLC0415 - its tables are large, and few hosts need them

    try:
        return idna.encode(host, uts46=True).decode()
    except idna.IDNAError:
        raise CallError(f"{host} is no host") from None


def _path(rest: str) -> str:
    from urllib.parse import quote, unquote  # noqa: PLC0415 - beside its use

    rest = rest.partition("#")[0]
    rest = rest if rest.startswith("/") else f"/{rest}"
    if any(unquote(part) in (".", "..") for part in rest.partition("?")[0].split("/")):
        raise CallError("a path segment `.` or `..` cannot stand in a URL")
    return quote(rest, safe="!$%&'()*+,/:;=?@[]~")


def literal(host: str) -> Address | None:
    """Return the address that a host is, or None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def hidden(address: Address) -> list[Address]:
    """Return the address, and what hides in it."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    number, found = int(address), [address]
    low = ipaddress.IPv4Address(number & 0xFFFFFFFF)
    if address in _MAPPED or address in _NAT64 or (number >> 32) & 0xFFFFFFFF in _ISATAP:
        found.append(low)  # type: ignore[arg-type]
    return found  # type: ignore[return-value]


@lru_cache(maxsize=4096)
def kind(address: Address) -> str:
    """Return what keeps an address from being called, or ''."""
    if not (isinstance(address, ipaddress.IPv6Address) and (address in _MAPPED or address in _NAT64)):
        for network, name in _REFUSED:
            if address in network:
                return name
        if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_V6:
            return "a reserved address"
    inner = hidden(address)[-1]
    return kind(inner) if inner != address else ""


class Rules:
    """Which addresses may be called: the public ones, and those that an operator names."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._networks: list[Network] = []
        self._places: set[tuple[str, int]] = set()
        for text in allowed:
            entry = read_allowed(text)
            if isinstance(entry, tuple):
                self._places.add(entry)
            else:
                self._networks.append(entry)

    def check(self, host: str, port: int, address: Address) -> None:
        """Raise CallError when a host that has this address may not be called at a port."""
        reason = kind(address)
        if not reason or (host, port) in self._places or (str(address), port) in self._places:
            return
        every = hidden(address)
        if any(inner in network for network in self._networks for inner in every):
            return
        what = host if host == str(address) else f"{host} is {address},"
        and_so = f"{what} {reason}" if what.endswith(",") else f"{what} is {reason}"
        raise CallError(f"refused: {and_so}; {SETTING} names what else may be called")


def read_allowed(text: str) -> Network | tuple[str, int]:
    """Return what an entry of the setting names: a network, or a host and port. Raises ValueError."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        host, _, port = text.rpartition(":")
        if "/" in text or not host or not port.isdigit() or not 0 < int(port) < 65_536:
            raise ValueError(f"{text} is no network, and no host with a port.") from None
    try:
        return read_host(host), int(port)
    except CallError as error:
        raise ValueError(str(error)) from None
