"""Helpers for tests, of this project and of those who add files to it."""
