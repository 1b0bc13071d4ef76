"""What the URL of a cluster may say, and how long a request to it takes at most."""

from time import monotonic

import pytest

from headrace.engine.errors import StoreRefused
from headrace.engine.store.elastic.cluster import AwayError, Cluster
from headrace.engine.store.elastic.place import read_place
from tests.parts import faults
from tests.parts.ports import free_port
from tests.parts.proxy import FaultProxy


@pytest.mark.parametrize(
    ("options", "seconds"), [("", 4), ("?timeout=0.2", 0.2), ("?timeout=2.5", 2.5), ("?timeout=60", 60)]
)
def test_times_that_are_taken(options: str, seconds: float) -> None:
    assert read_place(f"elasticsearch://h/shop{options}").timeout == seconds


@pytest.mark.parametrize(
    "text", ["0.19", "60.001", "0", "-1", "", "4s", "1e1", "nan", "inf", "٤", "9" * 5000]
)
def test_times_that_are_refused(text: str) -> None:
    with pytest.raises(StoreRefused, match=r"timeout should be seconds from 0\.2 to 60, not "):
        read_place(f"elasticsearch://h/shop?timeout={text}")


async def test_a_request_takes_no_longer() -> None:
    # Nobody need listen behind the proxy: it never passes the request on.
    with FaultProxy("127.0.0.1", free_port()) as proxy:
        proxy.on(faults.hang_before)
        cluster = Cluster(read_place(f"elasticsearch://{proxy.host}/shop?timeout=0.3"))
        began = monotonic()
        with pytest.raises(AwayError, match=r"no answer within 0\.3 s"):
            await cluster.ask("GET", "/")
        assert 0.3 <= monotonic() - began < 10
        await cluster.close()
