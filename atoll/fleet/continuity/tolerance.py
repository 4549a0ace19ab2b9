"""How long a policy puts up with a cluster that is not ready, or tainted NoExecute. Pure."""

from __future__ import annotations

from typing import Any

from atoll.base.clock import parse_rfc3339
from atoll.fleet.model import ClusterView
from atoll.fleet.names import NOT_READY_TAINT, UNREACHABLE_TAINT
from atoll.scheduling.matching import tolerates

Object = dict[str, Any]
OURS = (NOT_READY_TAINT, UNREACHABLE_TAINT)


def not_ready_seconds(placement: Object, default: float) -> float | None:
    """Seconds for which a cluster may be not ready; None: for ever (tolerated without seconds)."""
    taint = {"key": NOT_READY_TAINT, "effect": "NoExecute"}
    found = [item for item in placement.get("clusterTolerations") or () if tolerates(item, taint)]
    if not found:
        return default
    limits = [max(0.0, float(item["tolerationSeconds"])) for item in found if item.get("tolerationSeconds") is not None]
    return min(limits) if limits else None


def evicted(placement: Object, cluster: ClusterView, now: float) -> tuple[str, float | None]:
    """Why a person's NoExecute taint drives the workload out ("" if it does not), and seconds till it will."""
    later: float | None = None
    for taint in cluster.taints:
        if taint.get("effect") != "NoExecute" or taint["key"] in OURS:
            continue
        tolerations = [item for item in placement.get("clusterTolerations") or () if tolerates(item, taint)]
        why = f"taint {taint['key']}:NoExecute is not tolerated"
        if not tolerations:
            return why, None
        limits = [float(item["tolerationSeconds"]) for item in tolerations if item.get("tolerationSeconds") is not None]
        if limits:
            since = parse_rfc3339(taint["timeAdded"]) if taint.get("timeAdded") else now
            left = since + min(limits) - now
            if left <= 0:
                return f"{why} any longer", None
            later = left if later is None else min(later, left)
    return "", later
