"""KWOK `Stage` documents: what an object goes through when no real kubelet or provisioner stands behind it."""
