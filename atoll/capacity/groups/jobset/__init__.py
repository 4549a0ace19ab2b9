"""JobSet (jobset.x-k8s.io/v1alpha2): several Jobs that start, fail, restart and end as one."""
