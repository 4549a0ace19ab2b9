"""Where things go: filter, score, replica division. Pure."""
