"""What authors write: read, checked, compiled, and kept current."""
