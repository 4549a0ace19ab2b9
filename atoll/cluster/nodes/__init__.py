"""Simulated and process nodes."""
