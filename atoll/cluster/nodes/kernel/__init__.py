"""A machine's kernel log: read at the edge, and said of its Node by events and conditions."""
