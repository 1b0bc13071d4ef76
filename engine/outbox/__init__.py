"""Sends effects after their commit."""
