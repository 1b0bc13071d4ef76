"""Runs without store and network: tests of workflows, examples, dry runs."""
