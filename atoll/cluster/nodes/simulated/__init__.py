"""Simulated nodes: Node objects with no machine behind them, whose pods go through stages instead of running."""
