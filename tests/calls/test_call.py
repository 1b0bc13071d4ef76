"""What of a call is sent, and what cannot be sent."""

import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headrace.engine.calls.call import MOST_HEADERS, Outgoing, outgoing
from headrace.engine.errors import CallError
from headrace.engine.plugin import CallConfig, Step
from tests.makers import make_passage

URL = "https://crm.example/x"
SECRETS = {
    "TOKEN": "t0p-secret",
    "OTHER": "other-secret",
    "HOOK": "whsec_" + "QUJD" * 8,
    "URL": URL + "?key=k-1",
}
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def ready(call: dict[str, Any], **more: Any) -> Outgoing:
    return outgoing({"url": URL, **call}, SECRETS.get, key="k1", now=1_700_000_000, **more)


@pytest.mark.parametrize(
    ("call", "body", "kind"),
    [
        ({}, b"", None),
        (
            {"body": {"a": "{{ 7*7 }}", "n": [1, None, True]}},
            b'{"a":"{{ 7*7 }}","n":[1,null,true]}',
            "application/json",
        ),
        ({"body": "é"}, '"é"'.encode(), "application/json"),
        ({"body": 0}, b"0", "application/json"),
        ({"body": "a\r\nb", "as": "text"}, b"a\r\nb", "text/plain; charset=utf-8"),
        ({"body": 5, "as": "text"}, b"5", "text/plain; charset=utf-8"),
        (
            {"body": {"a": "x&y=z é", "b": [1, True], "c": None}, "as": "form"},
            b"a=x%26y%3Dz+%C3%A9&b=1&b=true&c=",
            "application/x-www-form-urlencoded",
        ),
        ({"body": {}, "headers": {"Content-Type": "application/x-own"}}, b"{}", "application/x-own"),
    ],
)
def test_a_body_is_built_from_values(call: dict[str, Any], body: bytes, kind: str | None) -> None:
    sent = ready(call)
    assert (sent.body, sent.headers.get("content-type")) == (body, kind)
    assert sent.method == ("GET" if "body" not in call else "POST")
    assert sent.headers["idempotency-key"] == "k1"
    assert "webhook-signature" not in sent.headers


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ({"url": None}, "the URL should be a text"),
        ({"method": "BREW"}, "BREW is no method"),
        ({"method": "GET\r\nX: y"}, "is no method"),
        ({"body": {}, "as": "xml"}, "json, form, text"),
        ({"body": [1], "as": "form"}, "should be an object"),
        ({"body": {"a": {"b": 1}}, "as": "form"}, "a holds objects"),
        ({"body": "\ud800"}, "cannot be sent as json"),
        ({"body": "x" * 1_100_000}, "can be sent"),
        ({"headers": {"x": "a\r\nset: b"}}, "line break"),
        ({"headers": {"x": "a\nb"}}, "line break"),
        ({"headers": {"x": "a\x00b"}}, "line break"),
        ({"headers": {"x": "日本"}}, "not ASCII"),
        ({"headers": {"x": "é"}}, "not ASCII"),
        ({"headers": {"x": 5}}, "should be a text"),
        ({"headers": {"x": "a" * 9000}}, "longer than"),
        ({"headers": {"x\r\ny": "a"}}, "is no name of a header"),
        ({"headers": {"x y": "a"}}, "is no name of a header"),
        ({"headers": {"": "a"}}, "is no name of a header"),
        ({"headers": {"x:": "a"}}, "is no name of a header"),
        ({"headers": {"Host": "127.0.0.1"}}, "set by Headrace"),
        ({"headers": {"Content-Length": "5"}}, "set by Headrace"),
        ({"headers": {"transfer-encoding": "chunked"}}, "set by Headrace"),
        ({"headers": {"proxy-authorization": "x"}}, "set by Headrace"),
        ({"headers": {"webhook-id": "x"}}, "set by Headrace"),
        ({"headers": {f"x{n}": "a" for n in range(MOST_HEADERS + 1)}}, "headers"),
        ({"auth": {"bearer": {"secret": "NOPE"}}}, "NOPE is not set"),
        ({"auth": {"bearer": None}}, "one of basic, bearer, hmac"),
        ({"auth": {"basic": {"user": "a:b", "password": {"secret": "TOKEN"}}}}, "colon"),
        ({"auth": {"hmac": {"key": {"secret": "TOKEN"}, "algorithm": "md5"}}}, "md5 is no algorithm"),
        ({"sign": [{"secret": "TOKEN"}]}, "must be base64"),
        ({"proxy": "http://127.0.0.1"}, "a call has no proxy"),
        ({"headers": [["x", "y"]]}, "`headers` should be an object"),
        ({"auth": "token"}, "`auth` should be an object"),
        ({"auth": {"basic": "u:p"}}, "`auth.basic` should be an object"),
        ({"auth": {"hmac": "k"}}, "`auth.hmac` should be an object"),
        ({"auth": {"hmac": {"key": {"secret": "TOKEN"}, "header": 5}}, "sign": 5}, "`sign` should be a list"),
        ({"sign": ["literal"]}, 'sign should be {"secret": "NAME"}'),
        ({"auth": {"bearer": "literal"}}, "bearer should be"),
        ({"auth": {"basic": {"user": "u", "password": "literal"}}}, "basic.password should be"),
        ({"auth": {"hmac": {"key": "literal"}}}, "hmac.key should be"),
        ({"tls": True}, "`tls` should be an object"),
        ({"tls": {"ca": 5}}, "`tls.ca` should be"),
        ({"timeout_seconds": "5"}, "should be a number"),
        ({"as": ["json"], "body": 1}, "json, form, text"),
    ],
)
def test_what_cannot_be_sent(call: dict[str, Any], says: str) -> None:
    with pytest.raises(CallError) as caught:
        ready(call)
    assert says in str(caught.value)
    assert not any(secret in str(caught.value) for secret in SECRETS.values())


@given(
    st.dictionaries(
        st.sampled_from(
            ["method", "url", "headers", "body", "as", "auth", "sign", "timeout_seconds", "tls", "x"]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["basic", "bearer", "hmac", "secret", "key", "ca"]), inner)
            ),
            max_leaves=5,
        ),
    )
)
def test_any_json_is_a_call_or_is_refused_in_words(call: dict[str, Any]) -> None:
    try:
        sent = outgoing({"url": URL, **call}, SECRETS.get, key="k", now=0)
    except CallError:
        return
    assert 0 < sent.seconds <= 60
    assert sent.target.scheme in ("http", "https")


def test_who_calls() -> None:
    basic = ready({"auth": {"basic": {"user": "u", "password": {"secret": "TOKEN"}}}})
    assert basic.headers["authorization"] == "Basic dTp0MHAtc2VjcmV0"
    bearer = ready({"auth": {"bearer": {"secret": "TOKEN"}}})
    assert bearer.headers["authorization"] == "Bearer t0p-secret"
    key = {"key": {"secret": "TOKEN"}, "header": "X-Hub", "algorithm": "sha512", "prefix": "sha512="}
    signed = ready({"body": {"a": 1}, "auth": {"hmac": key}})
    digest = hmac.new(b"t0p-secret", b'{"a":1}', hashlib.sha512).hexdigest()
    assert signed.headers["x-hub"] == f"sha512={digest}"
    header = ready({"headers": {"x-api-key": {"secret": "OTHER"}}})
    assert header.headers["x-api-key"] == "other-secret"
    assert ready({"url": {"secret": "URL"}}).target.url == SECRETS["URL"]


@pytest.mark.parametrize(
    "url", ["s3cret", "https://s3cret!/", "http://u:s3cret@crm.example/", "http://0x53/s3cret"]
)
def test_a_secret_that_is_no_url_is_not_shown(url: str) -> None:
    with pytest.raises(CallError, match="the secret HOOK is no URL that can be called") as caught:
        outgoing({"url": {"secret": "HOOK"}}, {"HOOK": url}.get, key="k", now=0)
    assert "cret" not in str(caught.value).removeprefix("the secret")


def test_a_secret_that_breaks_out_of_its_header_is_refused_and_not_shown() -> None:
    with pytest.raises(CallError) as caught:
        outgoing({"url": URL, "auth": {"bearer": {"secret": "T"}}}, {"T": "tok\r\nX: y"}.get, key="k", now=0)
    assert "tok" not in str(caught.value)


@pytest.mark.parametrize(("given", "sent"), [(PARENT, True), (None, False), ("x\r\ny", False)])
def test_the_trace_context_goes_on(given: str | None, *, sent: bool) -> None:
    assert ("traceparent" in ready({}, traceparent=given).headers) is sent


# The config of nodes


def called(config: dict[str, Any], **scope: Any) -> dict[str, Any]:
    step = Step(make_passage(event=scope), "node")
    return CallConfig.model_validate({"url": URL, **config}).call(step)


def test_a_config_gives_a_call_in_which_secrets_are_only_named() -> None:
    config = {
        "headers": {"X-A": "{{ event.properties.a }}", "x-key": {"secret": "OTHER"}},
        "body": {"all": "{{ event.properties }}", "text": "a {{ event.properties.a }}"},
        "as": "form",
        "auth": {"basic": {"user": "{{ event.properties.a }}", "password": {"secret": "TOKEN"}}},
        "sign": [{"secret": "HOOK"}],
        "timeout_seconds": 2,
        "tls": {"verify": False},
    }
    assert called(config, properties={"a": "{{ 7*7 }}"}) == {
        "method": "POST",
        "url": URL,
        "headers": {"x-a": "{{ 7*7 }}", "x-key": {"secret": "OTHER"}},
        "body": {"all": {"a": "{{ 7*7 }}"}, "text": "a {{ 7*7 }}"},
        "as": "form",
        "auth": {"basic": {"user": "{{ 7*7 }}", "password": {"secret": "TOKEN"}}},
        "sign": [{"secret": "HOOK"}],
        "timeout_seconds": 2,
        "tls": {"verify": False, "ca": None},
    }
    assert called({})["method"] == "GET"
    assert called({"method": "PUT", "body": {}})["method"] == "PUT"
    assert called({"url": {"secret": "URL"}})["url"] == {"secret": "URL"}
    bearer = {"auth": {"bearer": {"secret": "TOKEN"}}}
    assert called(bearer)["auth"] == {"bearer": {"secret": "TOKEN"}}
    made = called({"auth": {"hmac": {"key": {"secret": "TOKEN"}}}})["auth"]["hmac"]
    assert made == {"key": {"secret": "TOKEN"}, "header": "x-signature", "algorithm": "sha256", "prefix": ""}


@pytest.mark.parametrize(
    ("config", "place"),
    [
        ({"url": "https://{{ event.properties.host }}/"}, ("url", "text")),
        ({"url": "https://crm.example{{ event.properties.host }}/"}, ("url", "text")),
        ({"url": "https://a:{{ event.properties.pw }}@crm.example/"}, ("url", "text")),
        ({"url": "http://127.1/"}, ("url",)),
        ({"url": "ftp://crm.example/"}, ("url", "text")),
        ({"headers": {"Host": "a"}}, ("headers", "Host", "[key]")),
        ({"headers": {"x\r\n": "a"}}, ("headers", "x\r\n", "[key]")),
        ({"headers": {"x": "a\r\nb"}}, ("headers", "x", "text")),
        ({"headers": {"x": {"secret": 5}}}, ("headers", "x", "secret")),
        ({"auth": {"basic": {"user": "u", "password": "literal"}}}, ("auth", "basic", "password")),
        ({"auth": {"bearer": {"secret": "A"}, "hmac": {"key": {"secret": "B"}}}}, ("auth",)),
        ({"timeout_seconds": 61}, ("timeout_seconds",)),
        ({"proxy": "http://127.0.0.1"}, ("proxy",)),
    ],
)
def test_a_config_that_could_never_be_called_is_found_at_load(
    config: dict[str, Any], place: tuple[str, ...]
) -> None:
    with pytest.raises(ValidationError) as caught:
        CallConfig.model_validate({"url": URL, **config})
    assert [error["loc"] for error in caught.value.errors()] == [place]
