"""The controller-manager's work."""
