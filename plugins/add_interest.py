"""Raise the profile's score for an interest.

The scores are kept as `profile.interests.<interest>`. A negative amount lowers one. A profile has at most
1,000 interests, since their names often come from events.
"""

from pydantic import Field

from headrace.engine.plugin import Config, Example, NodeError, Out, Plugin, Step, Value

MAX_INTERESTS = 1000
_DONE = Out("done")
_MISSING = Out("missing")
_SPORT = {"interest": "{{ event.properties.category }}", "by": 2}


class AddInterestConfig(Config):
    interest: Value[str | None] = Field(
        description="The interest, at most 100 characters.", examples=["{{ event.properties.category }}"]
    )
    by: Value[int | float] | None = Field(None, description="How much to add; 1 if not given.", examples=[2])


class AddInterest(Plugin[AddInterestConfig]):
    ports = {"done": "The score is raised.", "missing": "There is no interest: no value, or an empty text."}
    examples = (
        Example(
            _SPORT,
            "done",
            event={"properties": {"category": "Men's shoes"}},
            profile={"interests": {"Men's shoes": 3}},
            changes={"profile.interests": {"Men's shoes": 5}},
        ),
        Example(_SPORT, "missing"),
        Example(_SPORT, "error", "A name that is a list.", event={"properties": {"category": ["a"]}}),
    )

    def run(self, step: Step) -> Out:
        name = (step.value(self.config.interest) or "").strip()
        if not name:
            return _MISSING
        if len(name) > 100 or not name.isprintable():
            raise NodeError("an interest has at most 100 characters, none of them a control character")
        known = step.profile.get("interests", ())
        if name not in known and len(known) >= MAX_INTERESTS:
            raise NodeError(f"the profile has {MAX_INTERESTS:,} interests already")
        by = self.config.by
        step.increment(_path(name), 1 if by is None else step.value(by))
        return _DONE


def _path(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"profile.interests['{escaped}']"
