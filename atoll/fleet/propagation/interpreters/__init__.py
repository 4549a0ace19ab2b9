"""What a hub must know of a kind to divide, apply, judge and aggregate it: one table module per group of kinds."""
