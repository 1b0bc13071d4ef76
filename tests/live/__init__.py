"""Tests with real server processes."""
