"""What a hub may be told; the defaults are those of the documentation."""

from __future__ import annotations

from dataclasses import dataclass

from atoll.kinds.hub import CLUSTERS
from atoll.kinds.resource import Resource


@dataclass(frozen=True, slots=True)
class HubOptions:
    """Seconds unless named otherwise."""

    heartbeat_seconds: float = 0.5  # between two probes of a cluster; more where there are many clusters
    probe_deadline_seconds: float = 1.2  # a probe without an answer by then has failed
    failure_threshold: int = 2  # failed probes in a row that make a cluster not ready; a time-out counts as all
    failover_seconds: float = 30.0  # not ready for so long, and replicas go elsewhere, unless the policy says
    request_seconds: float = 10.0  # any other request to a member
    stall_seconds: float = 2.0  # the hub's own pause after which it trusts nothing it timed
    summary_seconds: float = 2.0  # at least so long between two resource summaries of a cluster
    batch_seconds: float = 0.01  # status changes gathered before one is written
    workers: int = 16  # per controller; and per member, requests at once
    namespaces: bool = True  # namespaces are propagated to all clusters
    cluster_resource: Resource = CLUSTERS  # where Clusters are stored
    destroy_percent: int = 20
    destroy_at_least: int = 20
    destroy_window_seconds: float = 600.0
