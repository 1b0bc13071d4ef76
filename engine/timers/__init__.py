"""Runs that wait: what is kept of them, and how they go on."""
