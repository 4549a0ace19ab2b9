"""Volcano's Job (batch.volcano.sh), PodGroup and Queue (scheduling.volcano.sh)."""
