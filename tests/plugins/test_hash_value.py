"""hash_value: known answers for every algorithm, with and without a key."""

import hashlib
import hmac
from typing import Any

import pytest

from headrace.engine.plugin import Example
from headrace.engine.testing.example import run_example

ABC = {
    "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    "sha1": "a9993e364706816aba3e25717850c26c9cd0d89d",
    "md5": "900150983cd24fb0d6963f7d28e17f72",
    "sha512": "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
    "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    "blake2b": "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"
    "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923",
}


async def hash_of(value: Any, **config: Any) -> Any:
    ran = await run_example(
        "hash_value",
        Example(
            {"value": "{{ event.properties.v }}", **config},
            "",
            event={"properties": {"v": value}},
            secrets={"K": "k"},
        ),
    )
    return ran.result["hash"] if ran.port == "done" else ran.port


@pytest.mark.parametrize("algorithm", sorted(ABC))
async def test_known_answers(algorithm: str) -> None:
    assert await hash_of("abc", algorithm=algorithm) == ABC[algorithm]
    keyed = hmac.new(b"k", b"abc", algorithm).hexdigest()
    assert await hash_of("abc", algorithm=algorithm, key={"secret": "K"}) == keyed


async def test_normalisation() -> None:
    assert await hash_of(" ABC\n", lower=True) == ABC["sha256"]
    assert await hash_of(" abc", trim=False) == hashlib.sha256(b" abc").hexdigest()
    assert await hash_of(12) == hashlib.sha256(b"12").hexdigest()
    assert await hash_of("ä") == hashlib.sha256("ä".encode()).hexdigest()


@pytest.mark.parametrize("nothing", [None, "", "  "])
async def test_nothing_has_no_hash(nothing: Any) -> None:
    assert await hash_of(nothing) == "missing"


@pytest.mark.parametrize("other", [["a"], {"a": 1}, True, 1.5, "\ud800"])
async def test_other_values_fail(other: Any) -> None:
    assert await hash_of(other) == "error"


async def test_a_secret_that_is_not_set_fails() -> None:
    assert await hash_of("abc", key={"secret": "OTHER"}) == "error"
