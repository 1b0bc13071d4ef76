"""Write values into fields of the profile, the session or the run.

A field whose template gives nothing is left as it is, so that an event without a name does not erase the name
that is known. To write null on purpose, write `null`, or set `skip_missing` to false.
"""

from pydantic import Field

from headrace.engine.plugin import Body, Config, Example, Out, Plugin, Step, WritePath

_DONE = Out("done")


class SetFieldsConfig(Config):
    fields: dict[WritePath, Body] = Field(
        min_length=1,
        description="Values by the path to write them at; any JSON whose texts are templates.",
        examples=[{"profile.traits.name": "{{ event.properties.name }}", "vars.rate": 0.19}],
    )
    skip_missing: bool = Field(
        default=True, description="Leave a field as it is when its template gives nothing or null."
    )


class SetFields(Plugin[SetFieldsConfig]):
    ports = {"done": "The fields are written."}
    examples = (
        Example(
            {
                "fields": {
                    "profile.traits.name": "{{ event.properties.name }}",
                    "profile.traits.tags": ["a", "b"],
                }
            },
            "done",
            event={"properties": {"name": "Ann"}},
            changes={"profile.traits.name": "Ann", "profile.traits.tags": ["a", "b"]},
        ),
        Example(
            {"fields": {"profile.traits.name": "{{ event.properties.name }}", "profile.traits.age": None}},
            "done",
            "The event has no name: the known one stays. A null in the file is written.",
            profile={"traits": {"name": "Ann", "age": 30}},
            changes={"profile.traits.name": "Ann", "profile.traits.age": None},
        ),
        Example(
            {"fields": {"profile.traits.name": "{{ event.properties.name }}"}, "skip_missing": False},
            "done",
            profile={"traits": {"name": "Ann"}},
            changes={"profile.traits.name": None},
        ),
    )

    def prepare(self) -> None:
        skip = self.config.skip_missing
        self._fields = [
            (path, body, skip and body.source is not None) for path, body in self.config.fields.items()
        ]

    def run(self, step: Step) -> Out:
        for path, body, skip in self._fields:
            value = step.value(body)
            if value is not None or not skip:
                step.set(path, value)
        return _DONE
