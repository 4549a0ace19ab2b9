"""The pod scheduler's loop."""
