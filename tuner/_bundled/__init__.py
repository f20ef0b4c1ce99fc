"""Targets and search spaces as they lie inside the installed package."""
