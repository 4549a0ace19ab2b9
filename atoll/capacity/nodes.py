"""What capacity reads off a Node, and how it is changed: taints, pools, GPUs. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from atoll.base import quantity
from atoll.base.names import SIMULATED_LABEL
from atoll.capacity import names
from atoll.objects import meta
from atoll.objects.meta import condition, labels

Object = dict[str, Any]
GPU = "nvidia.com/gpu"
MOST_GPUS = 4096
"""Of one node, shared ones included: what says more is mistaken."""
_KWOK = "kwok.x-k8s.io/node"
_GPU_COUNT_LABEL, _GPU_PRODUCT_LABEL = "nvidia.com/gpu.count", "nvidia.com/gpu.product"  # by NVIDIA's feature discovery
_PARTITIONED = "-MIG-"
_LEAVING = (
    names.LEAVING,
    "ToBeDeletedByClusterAutoscaler",
    "karpenter.sh/disrupted",
    "node.cloudprovider.kubernetes.io/shutdown",
)


def taints(node: Object) -> list[Object]:
    return (node.get("spec") or {}).get("taints") or []


def has_taint(node: Object, key: str) -> bool:
    return any(taint["key"] == key for taint in taints(node))


def with_taint(node: Object, key: str, value: str, now: str = "") -> list[Object]:
    """The node's taints and one more of NoSchedule; one of that key is replaced."""
    added: Object = {"key": key, "effect": "NoSchedule"}
    if value:
        added["value"] = value
    if now:
        added["timeAdded"] = now
    return [*without_taint(node, key), added]


def without_taint(node: Object, *keys: str) -> list[Object]:
    return [taint for taint in taints(node) if taint["key"] not in keys]


def is_ready(node: Object) -> bool:
    return (condition(node, "Ready") or {}).get("status") == "True"


def is_simulated(node: Object) -> bool:
    """No machine stands behind it: Atoll's own, or one that somebody made for KWOK."""
    return labels(node).get(SIMULATED_LABEL) == "true" or meta.annotations(node).get(_KWOK) == "fake"


def is_leaving(node: Object) -> bool:
    """It is being deleted, or an autoscaler has begun to take it away: others' work, which is left alone."""
    return "deletionTimestamp" in node["metadata"] or any(has_taint(node, key) for key in _LEAVING)


def pool_of(node: Object) -> str:
    """By label; nodes without one belong together by their instance type."""
    own = labels(node)
    return own.get(names.POOL_LABEL) or own.get(names.INSTANCE_TYPE_LABEL) or "default"


def gpu_count(node: Object) -> int:
    """How many GPUs the machine has: as feature discovery found (MIG instances where they stand for GPUs, by the
    strategy `single`), else its capacity of whole ones; at most MOST_GPUS."""
    text = labels(node).get(_GPU_COUNT_LABEL, "")
    if text.isdigit():
        return min(int(text), MOST_GPUS)
    amount = ((node.get("status") or {}).get("capacity") or {}).get(GPU, 0)
    try:
        return min(quantity.units(amount), MOST_GPUS)
    except ValueError:
        return 0


def counted_gpus(node: Object) -> int:
    """How many GPUs feature discovery has counted; 0 where it counted none.

    A capacity is no such count (time slices are in it), nor is the label where all GPUs are partitioned and the device
    plugin's MIG strategy is `single`: then it counts instances.
    """
    own = labels(node)
    return 0 if _PARTITIONED in own.get(_GPU_PRODUCT_LABEL, "") or _GPU_COUNT_LABEL not in own else gpu_count(node)


def has_gpus(node: Object) -> bool:
    """Whole ones or parts of them (MIG)."""
    capacity = (node.get("status") or {}).get("capacity") or {}
    return gpu_count(node) > 0 or any(name.startswith("nvidia.com/mig-") for name in capacity)


def annotation(node: Object, key: str) -> str:
    return meta.annotations(node).get(key) or ""


def is_daemon(pod: Object) -> bool:
    """Of a DaemonSet, or a mirror of a static pod: it belongs to its node and is not moved."""
    if "kubernetes.io/config.mirror" in meta.annotations(pod):
        return True
    owners = pod["metadata"].get("ownerReferences") or ()
    return any(owner.get("controller") and owner["kind"] == "DaemonSet" for owner in owners)


def is_over(pod: Object) -> bool:
    """Its containers have ended for good."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def tolerates_key(pod: Object, key: str) -> bool:
    """Whether one of its tolerations names that taint, or all."""
    return any(
        item.get("key", "") == key or (not item.get("key") and item.get("operator") == "Exists")
        for item in (pod.get("spec") or {}).get("tolerations") or ()
    )


def work_on(pods: Iterable[Object]) -> list[Object]:
    """Those whose work would be lost with the node: not daemons, not ended ones."""
    return [pod for pod in pods if not is_daemon(pod) and not is_over(pod)]
