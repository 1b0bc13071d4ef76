"""Who is who: identifying values, moves and merges, end to end."""
