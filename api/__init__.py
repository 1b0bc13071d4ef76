"""The HTTP side: doors, read API and pages."""
