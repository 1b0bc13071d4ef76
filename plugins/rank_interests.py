"""Find the profile's strongest interests.

The node's result has them as `interests`, each with its `name` and `score`, the highest score first and equal ones by
name, and the names alone as `names`.
"""

from pydantic import Field

from headrace.engine.plugin import Config, Example, Out, Plugin, Step, WritePath

_NONE = Out("none", {"interests": [], "names": []})


class RankInterestsConfig(Config):
    top: int = Field(3, ge=1, le=1000, description="How many, at most.")
    at_least: float | None = Field(None, description="Only those with this score or more.", examples=[5])
    field: WritePath | None = Field(
        None,
        description="Where the names are kept; without it nothing is.",
        examples=["profile.traits.likes"],
    )


class RankInterests(Plugin[RankInterestsConfig]):
    ports = {
        "ranked": "There is at least one.",
        "none": "There is none, or there is no profile; nothing was changed.",
    }
    examples = (
        Example(
            {"top": 2, "field": "profile.traits.likes"},
            "ranked",
            profile={"interests": {"Running": 4, "Football": 7, "Books": 7, "Tea": 1}},
            result={
                "interests": [{"name": "Books", "score": 7}, {"name": "Football", "score": 7}],
                "names": ["Books", "Football"],
            },
            changes={"profile.traits.likes": ["Books", "Football"]},
        ),
        Example({"at_least": 5}, "none", profile={"interests": {"Running": 4}}),
        Example({}, "none", "A score below zero is no interest.", profile={"interests": {"Chess": -1}}),
    )

    def run(self, step: Step) -> Out:
        least = self.config.at_least
        scores = step.profile.get("interests", {})
        found = [
            (-score, name)
            for name, score in scores.items()
            if (score > 0 if least is None else score >= least)
        ]
        found = sorted(found)[: self.config.top]
        if not found:
            return _NONE
        names = [name for _, name in found]
        if self.config.field is not None:
            step.set(self.config.field, names)
        return Out(
            "ranked",
            {"interests": [{"name": name, "score": -score} for score, name in found], "names": names},
        )
