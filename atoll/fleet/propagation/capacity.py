"""How many more replicas fit into a cluster, node by node. Pure.

Exact for resources, node selectors, required node affinity and taints; pods' affinity to each other is not seen
here but by the member's own scheduler.
"""

from __future__ import annotations

from atoll.fleet.model import Amounts, NodeRoom, Requirements
from atoll.scheduling.matching import node_selector, untolerated
from atoll.scheduling.resources import PODS

_UNBOUNDED = 1_000_000


def available(nodes: tuple[NodeRoom, ...], needs: Requirements) -> int:
    """Replicas that the nodes have room for."""
    matches = node_selector(needs.node_affinity)
    selector = needs.node_selector.items()
    tolerations = list(needs.tolerations)
    total = 0
    for node in nodes:
        if selector and any(node.labels.get(key) != value for key, value in selector):
            continue
        if matches is not None and not matches(node.name, node.labels):
            continue
        if node.taints and untolerated(list(node.taints), tolerations):
            continue
        total += fits(node, needs)
    return total


def fits(node: NodeRoom, needs: Requirements) -> int:
    """Replicas that one node has room for."""
    room = max(0, node.free.get(PODS, _UNBOUNDED))
    for resource, asked in needs.requests.items():
        if asked > 0:
            room = min(room, max(0, node.free.get(resource, 0)) // asked)
    return room


def in_replicas(asked: Amounts, needs: Requirements) -> int:
    """How many replicas of `needs` would take as much as `asked`, rounded up: by the scarcest resource."""
    sizes = {**needs.requests, PODS: 1}
    return max((-(-asked.get(name, 0) // size) for name, size in sizes.items() if size > 0), default=0)
