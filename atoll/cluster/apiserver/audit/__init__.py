"""The audit log (audit.k8s.io/v1): who asked what, when, and what came of it, as much as the policy says."""
