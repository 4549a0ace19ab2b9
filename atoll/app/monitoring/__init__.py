"""What Prometheus and Grafana need to watch clusters: a configuration, alert rules, dashboards."""
