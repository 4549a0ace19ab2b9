"""Fleets in virtual time, and policies replayed on traces that others published."""
