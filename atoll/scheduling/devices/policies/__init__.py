"""Policies that place pods on GPU nodes, one file each."""
