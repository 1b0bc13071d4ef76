"""Record that the profile gave or withdrew a consent.

With the consent are kept the time, the source of the event, and, if it holds only for a while, until when.
"""

from pydantic import Field

from headrace.engine.model import iso
from headrace.engine.plugin import Config, Duration, Example, MarkName, Out, Plugin, Step, Value

_DONE = Out("done")


class SetConsentConfig(Config):
    consent: MarkName = Field(description="The consent's name.", examples=["marketing"])
    given: Value[bool] = Field(
        description="True: given; false: withdrawn.", examples=[True, "{{ event.properties.accepted }}"]
    )
    valid_for: Duration | None = Field(
        None, description="How long it holds; without it, until it is withdrawn.", examples=["365d"]
    )


class SetConsent(Plugin[SetConsentConfig]):
    ports = {"done": "The consent is recorded."}
    examples = (
        Example(
            {"consent": "marketing", "given": "{{ event.properties.accepted }}", "valid_for": "365d"},
            "done",
            event={"properties": {"accepted": True}},
            changes={
                "profile.consents.marketing.given": True,
                "profile.consents.marketing.at": "2026-01-15T12:00:00.000Z",
                "profile.consents.marketing.until": "2027-01-15T12:00:00.000Z",
            },
        ),
        Example(
            {"consent": "marketing", "given": False},
            "done",
            profile={"consents": {"marketing": {"given": True}}},
            changes={"profile.consents.marketing.given": False, "profile.consents.marketing.until": None},
        ),
        Example(
            {"consent": "marketing", "given": "{{ event.properties.accepted }}"},
            "error",
            "Only true and false are answers.",
            event={"properties": {"accepted": "maybe"}},
            changes={"profile.consents": {}},
        ),
    )

    def run(self, step: Step) -> Out:
        given, lasts = step.value(self.config.given), self.config.valid_for
        consent = {
            "given": given,
            "at": iso(step.now),
            "source": step.source["id"],
            "until": iso(step.now + lasts) if given and lasts is not None else None,
        }
        step.set(f"profile.consents['{self.config.consent}']", consent)
        return _DONE
