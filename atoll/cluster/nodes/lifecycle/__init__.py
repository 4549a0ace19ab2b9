"""Node lifecycle: silent nodes become Unknown, conditions become taints, NoExecute taints evict pods."""
