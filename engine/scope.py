"""The values that expressions of one event can name."""

from headrace.engine.language.scope import NAMES, Scope

__all__ = ["NAMES", "Scope"]
