"""Put members into the `response` of the answer to the client."""

from pydantic import Field

from headrace.engine.plugin import Body, Config, Example, Out, Plugin, Step

_DONE = Out("done")


class RespondConfig(Config):
    members: dict[str, Body] = Field(
        min_length=1,
        description="Values by the member's name; any JSON whose texts are templates.",
        examples=[{"greeting": "Hello {{ profile.traits.name }}"}],
    )


class Respond(Plugin[RespondConfig]):
    ports = {"done": "The members are in the answer; one that was there is replaced."}
    examples = (
        Example(
            {"members": {"offer": {"percent": "{{ vars.percent | default(5) }}"}}},
            "done",
            changes={"response.offer": {"percent": 5}},
        ),
    )

    def run(self, step: Step) -> Out:
        for name, body in self.config.members.items():
            step.respond(name, step.value(body))
        return _DONE
