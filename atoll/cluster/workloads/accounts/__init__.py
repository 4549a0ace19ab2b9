"""The default service account and the cluster's CA in each namespace, and tokens in Secrets that ask for one."""
