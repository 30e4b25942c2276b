"""Where what is worth keeping is kept. Knows rows by their names, and nothing of what they mean."""
