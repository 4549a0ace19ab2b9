"""LeaderWorkerSet (leaderworkerset.x-k8s.io/v1): replicas that are groups of pods, a leader and its workers."""
