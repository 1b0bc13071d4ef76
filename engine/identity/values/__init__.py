"""What identifying values mean."""
