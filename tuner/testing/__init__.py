"""Helpers for tests of the tuner and of third parties' drop-ins."""
