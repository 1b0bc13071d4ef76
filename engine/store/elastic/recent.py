"""What this process did lately, in bounded memory."""


class Recent:
    """Remembers the newest names, each with a text."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[str, str] = {}

    def add(self, name: str, text: str = "") -> None:
        """Remember a name; the oldest goes when there are too many."""
        self._known.pop(name, None)
        self._known[name] = text
        if len(self._known) > self._most:
            del self._known[next(iter(self._known))]

    def get(self, name: str) -> str | None:
        """Return the text of a name, or None."""
        return self._known.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._known
