"""Remove fields of the profile, the session or the run."""

from pydantic import Field

from headrace.engine.plugin import Config, Example, Out, Plugin, Step, WritePath

_DONE = Out("done")


class RemoveFieldsConfig(Config):
    fields: list[WritePath] = Field(
        min_length=1,
        description="Paths to remove; one that is not there is no error.",
        examples=[["profile.traits.phone", "session.context.draft"]],
    )


class RemoveFields(Plugin[RemoveFieldsConfig]):
    ports = {"done": "The fields are gone."}
    examples = (
        Example(
            {"fields": ["profile.traits.phone", "profile.traits.fax"]},
            "done",
            profile={"traits": {"phone": "1", "name": "Ann"}},
            changes={"profile.traits": {"name": "Ann"}},
        ),
    )

    def run(self, step: Step) -> Out:
        for path in self.config.fields:
            step.remove(path)
        return _DONE
