"""Go the way of the first condition that holds."""

from collections.abc import Mapping

from pydantic import Field

from headrace.engine.plugin import Config, Example, Expression, Out, Plugin, PortName, Step

OTHERWISE = "otherwise"
_CASES = {"small": "event.properties.total < 20", "large": "event.properties.total >= 100"}


class SwitchConfig(Config):
    cases: dict[PortName, Expression] = Field(
        min_length=1,
        description="Conditions by the port to leave by; tried in the order of the file.",
        examples=[_CASES],
    )


class Switch(Plugin[SwitchConfig]):
    ports = {OTHERWISE: "No case holds."}
    examples = (
        Example({"cases": _CASES}, "small", event={"properties": {"total": 5}}),
        Example({"cases": _CASES}, "large", event={"properties": {"total": 100}}),
        Example({"cases": _CASES}, OTHERWISE, event={"properties": {"total": 50}}),
    )

    @classmethod
    def ports_for(cls, config: SwitchConfig) -> Mapping[str, str]:
        return {port: f"{when.source} holds." for port, when in config.cases.items()} | cls.ports

    def prepare(self) -> None:
        for name in ("error", OTHERWISE):
            if name in self.config.cases:
                raise ValueError(f"a case cannot be named '{name}': every switch has that port already")
        self._cases = [(when, Out(port)) for port, when in self.config.cases.items()]
        self._otherwise = Out(OTHERWISE)

    def run(self, step: Step) -> Out:
        for when, out in self._cases:
            if step.test(when):
                return out
        return self._otherwise
