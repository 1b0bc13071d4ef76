"""What a plugin's config consists of."""
