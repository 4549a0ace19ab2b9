"""Jobs: so many pods that must succeed, each counted exactly once."""
