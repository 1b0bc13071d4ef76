"""Send profiles different ways, by chance and always the same way.

A profile goes the same way whenever it comes; without a profile the session decides, and without both the
event. Shares are parts of their sum: 1 and 3 are the same as 25 and 75.
"""

from collections.abc import Mapping
from hashlib import blake2b
from itertools import accumulate

from pydantic import Field

from headrace.engine.plugin import Config, Example, Out, Plugin, PortName, Step

_HALVES = {"shares": {"old": 50, "new": 50}, "name": "checkout"}


class RandomSplitConfig(Config):
    shares: dict[PortName, int] = Field(
        min_length=1, description="The share of profiles for each port.", examples=[_HALVES["shares"]]
    )
    name: str | None = Field(
        None,
        min_length=1,
        description="Splits of one name send a profile the same way, others independently; "
        "without it the node's name.",
        examples=["checkout"],
    )


class RandomSplit(Plugin[RandomSplitConfig]):
    examples = (
        Example(_HALVES, "old", profile={"id": "p-1"}),
        Example(_HALVES, "new", profile={"id": "p-2"}),
        Example(_HALVES, "old", "Without a profile.", profile=None, session={"id": "s-1"}),
    )

    @classmethod
    def ports_for(cls, config: RandomSplitConfig) -> Mapping[str, str]:
        return {port: f"{share} of {sum(config.shares.values())}." for port, share in config.shares.items()}

    def prepare(self) -> None:
        shares = self.config.shares
        if min(shares.values()) < 0 or not any(shares.values()):
            raise ValueError("shares: none may be negative, and one must be above 0")
        if "error" in shares:
            raise ValueError("shares: 'error' is a port already")
        self._total = sum(shares.values())
        self._ends = [(end, Out(port)) for port, end in zip(shares, accumulate(shares.values()), strict=True)]

    def run(self, step: Step) -> Out:
        subject = (step.profile or step.session or step.event)["id"]
        digest = blake2b(f"{self.config.name or step.name}\n{subject}".encode(), digest_size=8).digest()
        place = int.from_bytes(digest) * self._total >> 64
        return next(out for end, out in self._ends if place < end)
