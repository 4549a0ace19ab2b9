"""Gangs in the pod scheduler: who belongs together, all at once or none, and what a half gang must give back."""
