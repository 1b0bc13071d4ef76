"""Says whether a profile gave what its sources ask for."""

from collections.abc import Iterable, Mapping

from headrace.engine.draft import CAME_BY
from headrace.engine.files.source import Source
from headrace.engine.model import Doc, is_consented


class Asked:
    """Which consents the sources of a tenant ask for, as its workspace says now; `has_source`: one is enabled.

    A profile is asked for those of all sources by which it came. Where that is not known, or one of them is not there
    any more, it is asked for those of all sources of the tenant.
    """

    def __init__(self, sources: Mapping[str, Source], tenant: str) -> None:
        self._sources = {name: one for name, one in sources.items() if one.tenant == tenant}
        self._first = next((one for one in self._sources.values() if one.enabled), None)
        self._all = self._of(self._sources)
        self.has_source = self._first is not None

    def consents(self, profile: Doc) -> tuple[str, ...]:
        """Return the names of the consents that a profile is asked for, each once."""
        names = profile.get(CAME_BY) if self._all else None
        if names is None or not all(name in self._sources for name in names):
            return self._all
        return self._of(names)

    def has_agreed(self, profile: Doc, now: str) -> bool:
        """Say whether a profile gave all of them, and they still hold."""
        return not self._all or not self.missing(profile, now)

    def missing(self, profile: Doc, now: str) -> list[str]:
        """Return the names of those that it has not given, or that hold no more."""
        return [name for name in self.consents(profile) if not is_consented(profile, name, now)]

    def source(self, profile: Doc) -> Source:
        """Return in whose name an event of a profile is made that nobody sent: of its own sources, if one is enabled.

        Else it is the first of the tenant that is enabled; there must be one.
        """
        assert self._first is not None  # noqa: S101 - said to the type checker; who asks knows `has_source`
        own = (self._sources.get(name) for name in profile.get(CAME_BY, ()))
        return next((one for one in own if one is not None and one.enabled), self._first)

    def _of(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(consent for name in names for consent in self._sources[name].consents))
