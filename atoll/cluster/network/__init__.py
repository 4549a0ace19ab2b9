"""Services and DNS of one cluster, in user space."""
