"""Tell whether the profile gave consents that still hold.

It fails closed: a consent that is missing, withdrawn or over, and an event without a profile, mean no.
"""

from typing import Literal

from pydantic import Field

from headrace.engine.model import is_consented, iso
from headrace.engine.plugin import Config, Example, Out, Plugin, Step

_TRUE = Out("true")
_FALSE = Out("false")
_BOTH = ["marketing", "profiling"]


class HasConsentConfig(Config):
    consents: list[str] = Field(min_length=1, description="Names of consents.", examples=[["marketing"]])
    match: Literal["all", "any"] = Field("all", description="Whether all of them are needed, or any one.")


class HasConsent(Plugin[HasConsentConfig]):
    ports = {"true": "The consents were given and hold.", "false": "They were not, or do not any more."}
    examples = (
        Example(
            {"consents": _BOTH, "match": "any"}, "true", profile={"consents": {"marketing": {"given": True}}}
        ),
        Example({"consents": _BOTH}, "false", profile={"consents": {"marketing": {"given": True}}}),
        Example(
            {"consents": ["marketing"]},
            "false",
            "It is over.",
            profile={"consents": {"marketing": {"given": True, "until": "2026-01-01T00:00:00.000Z"}}},
        ),
    )

    def run(self, step: Step) -> Out:
        profile, now = step.profile, iso(step.now)
        enough = all if self.config.match == "all" else any
        return _TRUE if enough(is_consented(profile, name, now) for name in self.config.consents) else _FALSE
