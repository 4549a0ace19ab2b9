"""The status of Kubernetes' own PodGroups (`scheduling.k8s.io/v1alpha2`)."""
