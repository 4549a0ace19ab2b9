"""Autoscaling of nodes by a provider: more where pods wait, fewer where nodes are idle, new ones for broken and old."""
