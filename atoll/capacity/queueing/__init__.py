"""Queues with quota: Kueue's kinds (ClusterQueue, Cohort, LocalQueue, ResourceFlavor, Workload) as written."""
