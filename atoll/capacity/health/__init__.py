"""Health of nodes: what is wrong is found, the node drained, mended, tested and returned, few at a time."""
