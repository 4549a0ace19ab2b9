"""Many clusters as one."""
