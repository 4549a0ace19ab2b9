"""PodSecurity: the Pod Security Standards, enforced, audited and warned of as a namespace's labels say (KEP-2579)."""
