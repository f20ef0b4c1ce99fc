"""The doors: one file a command; heavy packages load inside the functions."""
