"""Runs that wait, and how they go on."""
