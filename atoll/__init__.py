"""Atoll runs AI and data workloads across many Kubernetes clusters.

Importing the package loads nothing heavy: parts are imported where they are used.
"""

__version__ = "0.1.0"
