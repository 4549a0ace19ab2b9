"""Figures, each a ratio against the real thing in one run on one machine. `python -m bench --help`."""
