"""Small loops that keep a cluster tidy: old events, finished Jobs and pods, aggregated roles, pod CIDRs."""
