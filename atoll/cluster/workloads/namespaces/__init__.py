"""Namespaces' deletion: all content goes first, pods before the rest."""
