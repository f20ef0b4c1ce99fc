"""Folders and files: runs, events, models, locks and templates."""
