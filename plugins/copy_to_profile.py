"""Copy several members of the event to the profile at once.

Each is written under its own name. One that the event does not have, or has as null, is left as it is in the
profile. To write under another name, or something that is reckoned, use `set_fields`. The node's result has the
names of what was copied as `copied`.
"""

from typing import Any

from pydantic import Field

from headrace.engine.plugin import Config, Example, Out, Plugin, ReadPath, Step, WritePath

_MISSING = Out("missing")
_WHO = {"members": ["event.properties.email", "event.properties.name"]}


class CopyToProfileConfig(Config):
    members: list[ReadPath] = Field(
        min_length=1,
        max_length=100,
        description="Paths in the event; the last name of each is its name in the profile.",
        examples=[["event.properties.email", "event.context.page.url"]],
    )
    below: WritePath = Field(
        WritePath("profile.traits"),
        description="Where in the profile they are written.",
        examples=["profile.traits.address"],
    )
    keep: bool = Field(default=False, description="Leave what the profile has already.")


class CopyToProfile(Plugin[CopyToProfileConfig]):
    ports = {
        "done": "At least one was there, and is in the profile.",
        "missing": "The event has none of them.",
    }
    examples = (
        Example(
            _WHO,
            "done",
            event={"properties": {"email": "ann@example.org", "name": "Ann", "total": 5}},
            profile={"traits": {"name": "A."}},
            result={"copied": ["email", "name"]},
            changes={"profile.traits": {"email": "ann@example.org", "name": "Ann"}},
        ),
        Example(
            {**_WHO, "keep": True},
            "done",
            "The name is known already.",
            event={"properties": {"email": "ann@example.org", "name": "Ann"}},
            profile={"traits": {"name": "A."}},
            result={"copied": ["email"]},
            changes={"profile.traits": {"email": "ann@example.org", "name": "A."}},
        ),
        Example(
            {"members": ["event.properties.city"], "below": "profile.traits.address"},
            "done",
            event={"properties": {"city": "Oslo"}},
            changes={"profile.traits": {"address": {"city": "Oslo"}}},
        ),
        Example(_WHO, "missing", event={"properties": {"email": None}}, changes={"profile.traits": {}}),
        Example(
            _WHO, "error", "The event has no profile.", event={"properties": {"name": "A."}}, profile=None
        ),
    )

    def prepare(self) -> None:
        below = self.config.below.source
        if not below.startswith("profile."):
            raise ValueError(f"'below' is {below}, which is not in the profile")
        self._pairs: list[tuple[str, ReadPath, WritePath]] = []
        for member in self.config.members:
            root, *names = next(iter(member.reads()))
            if root != "event" or not names:
                raise ValueError(f"'{member.source}' is not a member of the event")
            name = names[-1]
            if any(name == other for other, _, _ in self._pairs):
                raise ValueError(f"two members have the name '{name}', and there is one place for it")
            escaped = name.replace("\\", "\\\\").replace("'", "\\'")
            self._pairs.append((name, member, WritePath(f"{below}['{escaped}']")))

    def run(self, step: Step) -> Out:
        found: list[tuple[str, WritePath, Any]] = []
        for name, member, place in self._pairs:
            value = step.read(member)
            if value is not None:
                found.append((name, place, value))
        if not found:
            return _MISSING
        copied = []
        for name, place, value in found:
            if not (self.config.keep and step.read(place) is not None):
                step.set(place, value)
                copied.append(name)
        return Out("done", {"copied": copied})
