"""Which addresses may be called, in every spelling."""

import ipaddress
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from headrace.engine.calls.address import Rules, kind, literal, read_allowed, read_url
from headrace.engine.errors import CallError

INSIDE = [
    "0.0.0.0",  # noqa: S104 - an address to refuse
    "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254",
    "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1",
    "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255",
    "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "::ffff:169.254.169.254", "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1",
    "64:ff9b::169.254.169.254", "64:ff9b:1::8.8.8.8", "100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::", "3fff::1", "4000::1", "5f00::1",
    "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::5efe:8.8.8.8", "2a00:1450::5efe:127.0.0.1",
    "2a00:1450::200:5efe:10.0.0.1", "fec0::1", "ff02::1",
]  # fmt: skip
OUTSIDE = ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "192.0.1.1", "223.1.1.1",
           "2606:4700::1111", "2a00:1450::5efe:8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]  # fmt: skip


@pytest.mark.parametrize("text", INSIDE)
def test_an_address_inside_is_refused(text: str) -> None:
    address = ipaddress.ip_address(text)
    assert kind(address)
    with pytest.raises(CallError, match=r"refused: .*HEADRACE_ALLOW_ADDRESSES") as caught:
        Rules().check(str(address), 80, address)
    assert not caught.value.retryable


@pytest.mark.parametrize("text", OUTSIDE)
def test_an_address_of_the_internet_may_be_called(text: str) -> None:
    address = ipaddress.ip_address(text)
    assert kind(address) == ""
    Rules().check(str(address), 80, address)


@pytest.mark.parametrize(
    "allowed",
    ["10.1.0.0/16", "10.1.2.3", "::ffff:10.1.2.3", "10.1.2.3:8080", "crm.internal:8080", "0.0.0.0/0"],
)
def test_a_setting_opens_what_it_names(allowed: str) -> None:
    address = ipaddress.ip_address("10.1.2.3")
    rules = Rules([allowed])
    if allowed.startswith("::"):
        rules.check("crm.internal", 8080, ipaddress.ip_address("::ffff:10.1.2.3"))
        return
    rules.check("crm.internal" if allowed.startswith("crm") else "10.1.2.3", 8080, address)
    for host, port, inside in (
        ("crm.internal", 8081, "10.2.2.3"),
        ("other.internal", 8080, "127.0.0.1"),
        ("crm.example", 80, "::1"),
    ):
        if allowed != "0.0.0.0/0" or ":" in inside:
            with pytest.raises(CallError):
                rules.check(host, port, ipaddress.ip_address(inside))


def test_a_network_that_is_open_is_open_in_the_forms_that_hide_it() -> None:
    Rules(["127.0.0.0/8"]).check("::ffff:7f00:1", 80, ipaddress.ip_address("::ffff:127.0.0.1"))


@pytest.mark.parametrize(
    "text", ["here", "10.0.0.1/8", "crm:0", "crm:99999", "a b:1", ":80", "127.1:80", "http://x:1"]
)
def test_a_setting_that_names_nothing(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_allowed(text)


STRANGE = [
    "http://127.1/", "http://127.0.1/", "http://2130706433/", "http://0x7f000001/", "http://0x7f.0.0.1/",
    "http://0177.0.0.1/", "http://017700000001/", "http://127.0.0.01/", "http://0x7f.1/", "http://127.0.0.0x1/",
    "http://999.1.1.1/", "http://1.2.3.4.5/", "http://256.256.256.256/", "http://0/", "http://127.0.0.1../",
    "http://\uff10x7f000001/", "http://①②⑦.1/", "http://user@127.0.0.1/", "http://user:pw@crm.example/",
    "http://@crm.example/", "http://crm.example@127.0.0.1/", "http://crm.example\\@127.0.0.1/",
    "http://crm.example:80@127.0.0.1/", "http://[fe80::1%25eth0]/", "http://[::1%lo]/", "http://[127.0.0.1]/",
    "http://[::1/", "http://[]/", "http:///x", "http://", "http:127.0.0.1", "//127.0.0.1/", "crm.example",
    "file:///etc/passwd", "ftp://crm.example/", "gopher://127.0.0.1:70/_x", "dict://127.0.0.1:11211/", "data:,x",
    "jar:http://127.0.0.1!/", "http+unix://%2Fvar%2Frun%2Fdocker.sock/", "http://%31%32%37.0.0.1/",
    "http://crm%2eexample/", "http://127.0.0.1%00.crm.example/", "http://127.0.0.1\r\nHost: x/",
    "http://crm.example/a b",
    "http://crm.example/\r\nX: y", "http://crm.example/\x00", "http://crm.example:0/", "http://crm.example:65536/",
    "http://crm.example:+80/", "http://crm.example:8 0/", "http://crm..example/", "http://.crm.example/",
    f"http://{'a' * 64}.example/", f"http://crm.example/{'a' * 9000}", "http://crm.example/../x",
    "http://crm.example/a/%2e%2e/x", "http://crm.example/%2E", "http://crm.example;127.0.0.1/",
    "http://crm.example,127.0.0.1/", "http://(127.0.0.1)/",
]  # fmt: skip


@pytest.mark.parametrize("url", STRANGE)
def test_a_strange_url_is_refused_whatever_may_be_called(url: str) -> None:
    with pytest.raises(CallError) as caught:
        read_url(url)
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://crm.example", "http://crm.example/"),
        ("HTTP://CRM.Example:80/A?b=C#d", "http://crm.example/A?b=C"),
        ("https://crm.example:443?x=1", "https://crm.example/?x=1"),
        ("https://crm.example.:8443/", "https://crm.example:8443/"),
        ("https://faß.example/ö?ü=1", "https://xn--fa-hia.example/%C3%B6?%C3%BC=1"),
        ("http://[2001:DB8:0:0::1]:80/", "http://[2001:db8::1]/"),
        ("http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/"),
        ("https://crm.example/a%2Fb/%252e%252e?q=../..", "https://crm.example/a%2Fb/%252e%252e?q=../.."),
        ("http://\uff11\uff12\uff17.\uff10.\uff10.\uff11:8080/", "http://127.0.0.1:8080/"),
        ("http://127。0。0。1/", "http://127.0.0.1/"),
        ("http://ⓛocalhost/", "http://localhost/"),
        ('http://crm.example/"<>|', "http://crm.example/%22%3C%3E%7C"),
    ],
)
def test_a_url_is_sent_in_one_spelling(url: str, sent: str) -> None:
    target = read_url(url)
    assert target.url == sent
    assert read_url(sent) == target
    assert literal(target.host) is None or target.host == str(literal(target.host))


PIECES = st.sampled_from([
    *"@:/?#[].%\\ \t\r\n0x7fa", "http://", "https://", "127.0.0.1", "[::1]", "crm.example", "%2e", "%00",
    "\uff0f", "\u3002", "\u2488", "\u00df", "\u2100", "xn--", "//",
])  # fmt: skip


@given(st.lists(PIECES, max_size=12).map("".join))
def test_the_library_that_calls_reads_a_url_as_we_do(rest: str) -> None:
    """Two readers of one URL who differ are how calls are led astray."""
    try:
        target = read_url(f"http://{rest}")
    except CallError:
        return
    url = URL(target.url, encoded=True)
    assert (url.scheme, url.raw_host, url.port) == (target.scheme, target.host, target.port)
    assert (url.user, url.password) == (None, None)
    assert url.raw_path_qs == target.path
    split = urlsplit(target.url)
    assert (split.hostname, split.port or 80, split.username) == (target.host, target.port, None)
    assert read_url(target.url) == target
