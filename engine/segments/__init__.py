"""Which segments a profile is in, and which goals an event achieves."""
