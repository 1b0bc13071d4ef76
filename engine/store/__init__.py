"""Where profiles, sessions and events live: three protocols and their stores."""
