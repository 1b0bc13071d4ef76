"""validate_value: a table of values for each kind."""

from typing import Any

import pytest

from headrace.engine.plugin import Example
from headrace.engine.testing.example import run_example

VALID: dict[str, list[Any]] = {
    "email": ["a@b.co", "first.last+tag@sub.example.org", "x@xn--bcher-kva.example"],
    "url": ["http://a.b", "https://shop.example:8443/a?b=c#d", "https://[2001:db8::1]/"],
    "ipv4": ["192.0.2.1", "0.0.0.0"],  # noqa: S104 - an address as text
    "ipv6": ["::1", "2001:db8::1"],
    "date": ["2024-02-29"],
    "time": ["23:59", "00:00:00", "12:30:15.123"],
    "datetime": ["2026-01-15T12:00:00Z", "2026-01-15 12:00", "2026-01-15T12:00:00.123+01:00"],
    "integer": [3, -3, 3.0, "12", "+7", "-0"],
    "number": [3, 1.5, "1.5", "-1e3", ".5", "7."],
    "phone": ["+4930123456", "+12025550123"],
    "ean": ["4006381333931", "96385074"],
    "iban": ["DE89370400440532013000", "gb82 west 1234 5698 7654 32"],
    "uuid": ["123e4567-e89b-12d3-a456-426614174000", "123E4567-E89B-12D3-A456-426614174000"],
}
INVALID: dict[str, list[Any]] = {
    "email": [
        "a",
        "a@b",
        "a@b.",
        "@b.co",
        "a b@c.de",
        "a@-b.co",
        "a" * 65 + "@b.co",
        "a@b.co\n",
        "a..b@c.de",
    ],
    "url": [
        "shop.example",
        "ftp://a.b",
        "http://",
        "http://a.b:99999",
        "http://a b.c",
        "javascript:alert(1)",
        "http://a.b/\n",
        "http://a.b/\r\nX: y\r\n\r\n",
        "http://a\n.b/\n",
        "http://a.b/\t",
        "http://a.b/\x00",
        "http://a.b/\x85",
        "http://a.b/\u2028",
        "http://a.b/\u2029",
        "http://a.b/\u00a0",
        " http://a.b/",
        "http://a.b\\@evil.example/",
        "http:\\\\a.b",
    ],
    "ipv4": ["256.1.1.1", "1.2.3", "01.2.3.4", "::1", 16909060],
    "ipv6": [":::", "1.2.3.4", "2001:db8::g", "fe80::1%eth0"],
    "date": ["2026-02-29", "2026-1-1", "20260115", "2026-W01-1", "15.01.2026", "٢٠٢٦-01-15"],
    "time": ["24:00", "9:30", "12:60", "noon"],
    "datetime": ["2026-01-15", "2026-01-15T25:00", "2026-13-01T00:00", "20260115T120000"],
    "integer": ["1.0", "1_000", "", "x", 1.5, True, "9" * 101, "٣"],
    "number": ["nan", "inf", "1e999", "1_0", "", "0x10", True, "."],
    "phone": ["030123456", "+0301234567", "+49", "+49 30 123456", "+1234567890123456", 4930123456],
    "ean": ["4006381333932", "96385075", "400638133393", "abc"],
    "iban": ["DE89370400440532013001", "DE8937", "8937DE0400440532013000"],
    "uuid": ["123e4567e89b12d3a456426614174000", "{123e4567-e89b-12d3-a456-426614174000}", "x"],
}


@pytest.mark.parametrize(
    ("kind", "value", "port"),
    [(kind, value, "valid") for kind, values in VALID.items() for value in values]
    + [(kind, value, "invalid") for kind, values in INVALID.items() for value in values],
)
async def test_kind(kind: str, value: Any, port: str) -> None:
    example = Example(
        {"value": "{{ event.properties.v }}", "kind": kind}, port, event={"properties": {"v": value}}
    )
    ran = await run_example("validate_value", example)
    assert (ran.port, ran.error) == (port, "")


@pytest.mark.parametrize("kind", sorted(VALID))
@pytest.mark.parametrize("value", [None, [], {}, ["a@b.co"], "x" * 3000, "\x00", "\ud800"])
async def test_never(kind: str, value: Any) -> None:
    example = Example(
        {"value": "{{ event.properties.v }}", "kind": kind}, "", event={"properties": {"v": value}}
    )
    ran = await run_example("validate_value", example)
    assert (ran.port, ran.error) == ("invalid", "")
