"""Let the profile have an identifying value, such as an e-mail address.

The same happens as by `identify` of an event type: a value that nobody has becomes the profile's; somebody else's
merges the two, or the session goes to that person. The event then starts again, with the profile that it has now.
Only a source with a key is believed (or `"from": "any"` in the event type that declares the kind): of others a value is
kept as `claimed`, and joins nobody who is known.
"""

from typing import Any

from pydantic import Field

from headrace.engine.plugin import Config, Example, KindName, Out, Plugin, Step, Value

_REFUSED = frozenset(("untrusted", "full", "outweighed", "nobody"))
_MAIL = {"kind": "email", "value": "{{ event.properties.email }}"}


class IdentifyConfig(Config):
    kind: KindName = Field(
        description="The kind of the value, with the settings that an event type declares for it.",
        examples=["email"],
    )
    value: Value[Any] = Field(description="The value.", examples=["{{ event.properties.email }}"])


class Identify(Plugin[IdentifyConfig]):
    uses = {"store"}
    ports = {
        "done": "The profile has the value.",
        "refused": "It does not get it: the source is not trusted, or somebody else has it.",
        "blank": "The value is nobody's: empty, `null`, `0`, blocked.",
    }
    examples = (
        Example(
            _MAIL,
            "done",
            "Nobody had it: what a source without a key says is only claimed.",
            event={"properties": {"email": " Ann@Example.com "}},
            result={"decision": "noted"},
            changes={"profile.claimed.email": ["ann@example.com"]},
        ),
        Example(
            _MAIL,
            "refused",
            "The profile is somebody known, and a source without a key is not believed.",
            profile={"identities": {"email": ["bob@example.com"]}},
            event={"properties": {"email": "ann@example.com"}},
            result={"decision": "untrusted"},
            changes={"profile.identities.email": ["bob@example.com"]},
        ),
        Example(
            _MAIL,
            "done",
            "The source has a key.",
            event={"properties": {"email": "ann@example.com"}},
            result={"decision": "kept"},
            changes={"profile.identities.email": ["ann@example.com"]},
            trusted=True,
        ),
        Example(_MAIL, "blank", event={"properties": {"email": "undefined"}}),
    )

    async def run(self, step: Step) -> Out:
        decision = await step.identify(self.config.kind, step.value(self.config.value))
        if decision == "blank":
            return Out("blank")
        return Out("refused" if decision in _REFUSED else "done", {"decision": decision})
