"""One small port to any Kubernetes API, and its HTTP implementation."""
