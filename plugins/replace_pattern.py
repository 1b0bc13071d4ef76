r"""Replace what a regular expression matches in a text.

RE2's syntax. In the replacement `$1` and `${name}` stand for what a group matched, `$$` for a dollar sign.
The node's result has the text as `text` and the number of replacements as `count`. A text over 64 KiB, or more
than 10,000 matches, fails the node.
"""

import string

from pydantic import Field

from headrace.engine.plugin import Config, Example, NodeError, Out, Pattern, Plugin, Step, Text

LARGEST_RESULT = 1 << 20
"""Characters of a result; what event data matches must not grow without bound."""


class _Replacement(string.Template):
    idpattern = "(?a:[_A-Za-z0-9]+)"


class ReplacePatternConfig(Config):
    text: Text = Field(description="The text to change.", examples=["{{ event.properties.phone }}"])
    pattern: Pattern = Field(description="The regular expression.", examples=[r"[^\d+]"])
    replacement: str = Field("", max_length=1000, description="What to put in its place.", examples=["$1-$2"])


class ReplacePattern(Plugin[ReplacePatternConfig]):
    ports = {
        "replaced": "Something was replaced.",
        "unchanged": "Nothing matched; `text` is the text as it was.",
    }
    examples = (
        Example(
            {"text": "{{ event.properties.phone }}", "pattern": r"[^\d+]"},
            "replaced",
            event={"properties": {"phone": "+49 (30) 123"}},
            result={"text": "+4930123", "count": 4},
        ),
        Example(
            {
                "text": "{{ event.properties.day }}",
                "pattern": r"(\d+)\.(?P<month>\d+)",
                "replacement": "${month}/$1",
            },
            "replaced",
            event={"properties": {"day": "24.12"}},
            result={"text": "12/24", "count": 1},
        ),
        Example({"text": "abc", "pattern": r"\d"}, "unchanged", result={"text": "abc", "count": 0}),
    )

    def prepare(self) -> None:
        self._replacement = _Replacement(self.config.replacement)
        if not self._replacement.is_valid():
            raise ValueError("replacement: a lone $ is written $$")
        for name in self._replacement.get_identifiers():
            if name not in self.config.pattern.groups:
                raise ValueError(f"replacement: the pattern has no group '{name}'")

    def run(self, step: Step) -> Out:
        text = step.value(self.config.text)
        parts, end, size, count = [], 0, len(text), 0
        for start, stop, groups in self.config.pattern.matches(text):
            new = self._replacement.substitute({name: group or "" for name, group in groups.items()})
            size += len(new)
            if size > LARGEST_RESULT:
                raise NodeError("the result would be longer than 1 MiB")
            parts += [text[end:start], new]
            end, count = stop, count + 1
        return Out(
            "replaced" if count else "unchanged", {"text": "".join([*parts, text[end:]]), "count": count}
        )
