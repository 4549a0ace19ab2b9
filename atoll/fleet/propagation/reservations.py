"""Room that is spoken for: replicas given to a cluster whose pods are not seen there yet, and pods without a node.

Without it two decisions in quick succession would both count on the same room.
"""

from __future__ import annotations

from typing import Any

from atoll.fleet.continuity import evictions
from atoll.fleet.model import Requirements
from atoll.fleet.propagation.capacity import in_replicas
from atoll.fleet.propagation.view import View
from atoll.scheduling.resources import PODS, amounts

Object = dict[str, Any]


def reserved(view: View, needs: Requirements) -> dict[str, int]:
    """Cluster → replicas of that size for which there is room that is spoken for."""
    asked: dict[str, dict[str, int]] = {}
    for binding in view.all_bindings():
        spec = binding["spec"]
        if not spec.get("replicas") or not spec.get("clusters"):
            continue
        counts = evictions.reported(binding)
        request: dict[str, int] | None = None
        for target in spec["clusters"]:
            missing = int(target.get("replicas") or 0) - counts.get(target["name"], 0)
            if missing > 0:
                if request is None:
                    request = amounts((spec.get("replicaRequirements") or {}).get("resourceRequest"))
                    request[PODS] = 1
                total = asked.setdefault(target["name"], {})
                for name, value in request.items():
                    total[name] = total.get(name, 0) + value * missing
    for member in view.members.all():
        total = asked.setdefault(member.name, {})
        for name, value in member.waiting().items():
            total[name] = total.get(name, 0) + value
    return {cluster: in_replicas(total, needs) for cluster, total in asked.items()}
