"""What happens to an event; no HTTP server in it."""
