"""The Kubernetes API as functions over a store; HTTP is a translation at its edge."""
