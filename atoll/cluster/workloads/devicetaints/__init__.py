"""Pods leave devices whose NoExecute taints they do not tolerate."""
