"""HorizontalPodAutoscaler (autoscaling/v2)."""
