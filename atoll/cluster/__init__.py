"""One Kubernetes cluster in a process."""
