"""Where what is worth keeping is kept, tested."""
