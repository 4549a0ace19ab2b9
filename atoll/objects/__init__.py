"""What one does with any Kubernetes object. Pure: no I/O, no clock."""
