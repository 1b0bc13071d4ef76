"""A plugin in a package of its own."""
