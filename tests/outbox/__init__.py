"""Tests of what sends effects."""
