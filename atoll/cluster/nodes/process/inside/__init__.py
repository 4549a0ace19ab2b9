"""Programs that run in a container's namespaces, started by path with the standard library only."""
