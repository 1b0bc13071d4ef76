"""Calls to the world: what may be called, what is sent, what may come back."""
