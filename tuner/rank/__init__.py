"""The order of the board."""
