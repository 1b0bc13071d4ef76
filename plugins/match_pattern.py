r"""Match a text against a regular expression.

RE2's syntax; the pattern may match anywhere unless `^` and `$` say otherwise, and `(?i)` in front ignores
case. The node's result has what each group matched as `groups`, by number (as text, `0` is all of it) and by
name. A text over 64 KiB fails the node.
"""

from pydantic import Field

from headrace.engine.plugin import Config, Example, Out, Pattern, Plugin, Step, Text

_UNMATCHED = Out("unmatched")
_ORDER = {"text": "{{ event.properties.note }}", "pattern": r"order (?P<number>\d+)"}


class MatchPatternConfig(Config):
    text: Text = Field(description="The text to look at.", examples=["{{ event.properties.note }}"])
    pattern: Pattern = Field(description="The regular expression.", examples=[r"order (?P<number>\d+)"])


class MatchPattern(Plugin[MatchPatternConfig]):
    ports = {"matched": "The pattern matches.", "unmatched": "It does not, or the text is missing."}
    examples = (
        Example(
            _ORDER,
            "matched",
            event={"properties": {"note": "about order 77, please"}},
            result={"groups": {"0": "order 77", "1": "77", "number": "77"}},
        ),
        Example(_ORDER, "unmatched", event={"properties": {"note": "hello"}}),
    )

    def run(self, step: Step) -> Out:
        groups = self.config.pattern.search(step.value(self.config.text))
        return _UNMATCHED if groups is None else Out("matched", {"groups": groups})
