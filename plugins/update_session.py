"""Write properties and context of the session.

Members that are not named stay as they are. One whose template gives nothing is left as it is too, unless
`skip_missing` is false.
"""

from pydantic import Field

from headrace.engine.plugin import Body, Config, Example, NodeError, Out, Plugin, Step, WritePath

_DONE = Out("done")
_CART = {"properties": {"cart": "{{ event.properties.total }}", "step": "pay"}, "context": {"seen": True}}


class UpdateSessionConfig(Config):
    properties: dict[str, Body] = Field(
        {},
        max_length=100,
        description="Members of `session.properties`, any JSON whose texts are templates.",
        examples=[{"cart": "{{ event.properties.total }}"}],
    )
    context: dict[str, Body] = Field(
        {}, max_length=100, description="Members of `session.context`.", examples=[{"language": "nb"}]
    )
    skip_missing: bool = Field(
        default=True, description="Leave a member as it is when its template gives nothing or null."
    )


class UpdateSession(Plugin[UpdateSessionConfig]):
    ports = {"done": "The session is as it should be."}
    examples = (
        Example(
            _CART,
            "done",
            event={"properties": {"total": 40}},
            session={"properties": {"step": "look", "from": "mail"}},
            changes={
                "session.properties": {"step": "pay", "from": "mail", "cart": 40},
                "session.context": {"seen": True},
            },
        ),
        Example(
            _CART,
            "done",
            "There is no total: what is known of the cart stays.",
            session={"properties": {"cart": 10}},
            changes={"session.properties": {"step": "pay", "cart": 10}},
        ),
        Example(_CART, "error", "The event has no session.", session=None),
    )

    def prepare(self) -> None:
        if not (self.config.properties or self.config.context):
            raise ValueError("it writes nothing: give 'properties' or 'context'")
        skip = self.config.skip_missing
        self._members = [
            (_path(part, name), body, skip and body.source is not None)
            for part in ("properties", "context")
            for name, body in getattr(self.config, part).items()
        ]

    def run(self, step: Step) -> Out:
        if not step.session:
            raise NodeError("the event has no session")
        for path, body, skip in self._members:
            value = step.value(body)
            if value is not None or not skip:
                step.set(path, value)
        return _DONE


def _path(part: str, name: str) -> WritePath:
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return WritePath(f"session.{part}['{escaped}']")
