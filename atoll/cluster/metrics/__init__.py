"""metrics.k8s.io: what nodes and pods use, from the kubelets' /metrics/resource, and declared for simulated pods."""
