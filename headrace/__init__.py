"""Headrace: a rule-based workflow engine for events."""

__version__ = "0.1.0"
