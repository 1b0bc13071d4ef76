"""Tests of the engine's replay."""
