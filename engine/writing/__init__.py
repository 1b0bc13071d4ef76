"""What nodes may read and write, and changes that can be undone."""
