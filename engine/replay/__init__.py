"""Runs stored events again, dry or for good."""
