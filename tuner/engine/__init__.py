"""Slots, the supervisor and what a slot does with one candidate."""
