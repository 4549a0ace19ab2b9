"""Services of type LoadBalancer get an address of the cluster's own."""
