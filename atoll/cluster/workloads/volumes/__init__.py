"""PersistentVolumeClaims and PersistentVolumes: matching, provisioning (simulated), reclaiming, protection."""
