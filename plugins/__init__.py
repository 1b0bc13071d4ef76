"""The built-in plugins: one file is one node type."""
