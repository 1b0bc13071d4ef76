"""One HTTP exchange with the world."""
