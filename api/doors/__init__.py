"""The ways in: one module a door."""
