"""Whether a pod would fit onto an empty node of a pool, and how many nodes a set of pods takes. Pure.

Looked at: requests, node selector and required node affinity, taints. Not looked at: affinity between pods, topology
spread and volumes: for these the scheduler has the last word, and a node made in vain goes again when it is idle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from atoll.base.quantity import NANO
from atoll.capacity import names
from atoll.capacity.autoscale.model import Object
from atoll.capacity.autoscale.settings import Pool
from atoll.objects.pod_resources import pod_requests
from atoll.scheduling.matching import node_selector, untolerated

Amounts = Mapping[str, int]


def needs(pod: Object) -> dict[str, int]:
    """What it takes of a node, in nano-units."""
    return {**pod_requests(pod), "pods": NANO}


def allows(pool: Pool, pod: Object) -> bool:
    """Whether an empty node of the pool is one that the pod may go to, sizes apart."""
    spec = pod["spec"]
    labels = {**pool.labels, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = node_selector(affinity.get("requiredDuringSchedulingIgnoredDuringExecution"))
    if required is not None and not required("", labels):
        return False
    return not untolerated([dict(taint) for taint in pool.node.taints], spec.get("tolerations") or [])


@dataclass(slots=True)
class Bin:
    """A node to come: what is left of it. `new`: it is not ordered yet."""

    pool: str
    left: dict[str, int]
    new: bool = False
    balloon: bool = False
    pods: list[str] = field(default_factory=list)

    def takes(self, wanted: Amounts, *, balloon: bool) -> bool:
        """Balloons keep apart from each other."""
        if balloon and self.balloon:
            return False
        return all(self.left.get(name, 0) >= amount for name, amount in wanted.items() if amount)

    def put(self, name: str, wanted: Amounts, *, balloon: bool) -> None:
        for resource, amount in wanted.items():
            self.left[resource] = self.left.get(resource, 0) - amount
        self.balloon = self.balloon or balloon
        self.pods.append(name)


def empty_bin(pool: Pool, *, new: bool = False) -> Bin:
    return Bin(pool.name, pool.node.amounts, new=new)


def pack(
    pods: Sequence[Object], pools: Sequence[Pool], coming: Sequence[Bin], room: Mapping[str, int]
) -> tuple[list[Bin], dict[str, str]]:
    """First fit, the largest first: pods onto nodes that come anyway, then onto new ones of the cheapest pool that has
    `room`. The bins that were used or made, and why pods were left over."""
    bins = list(coming)
    left = dict(room)
    unplaced: dict[str, str] = {}
    cheapest = sorted(pools, key=lambda pool: (pool.price_per_hour, pool.name))
    sized = sorted(((needs(pod), pod) for pod in pods), key=lambda item: _order(*item))
    for wanted, pod in sized:
        name = f"{pod['metadata'].get('namespace')}/{pod['metadata']['name']}"
        balloon = is_balloon(pod)
        fitting = [pool for pool in cheapest if allows(pool, pod)]
        allowed = {pool.name for pool in fitting}
        found = next((it for it in bins if it.pool in allowed and it.takes(wanted, balloon=balloon)), None)
        if found is None:
            large = [pool for pool in fitting if empty_bin(pool).takes(wanted, balloon=balloon)]
            chosen = next((pool for pool in large if left.get(pool.name, 0) > 0), None)
            if chosen is None:
                unplaced[name] = _why(fitting, large)
                continue
            left[chosen.name] -= 1
            found = empty_bin(chosen, new=True)
            bins.append(found)
        found.put(name, wanted, balloon=balloon)
    return bins, unplaced


def _order(wanted: Amounts, pod: Object) -> tuple[bool, int, int, int, str]:
    """Work before balloons; more GPUs, then more CPU and memory first."""
    gpus = sum(amount for name, amount in wanted.items() if name.startswith("nvidia.com/"))
    return is_balloon(pod), -gpus, -wanted.get("cpu", 0), -wanted.get("memory", 0), pod["metadata"]["name"]


def _why(fitting: Sequence[Pool], large: Sequence[Pool]) -> str:
    if not fitting:
        return "its node selector, affinity or tolerations fit no pool"
    if not large:
        return f"it is larger than a node of {', '.join(pool.name for pool in fitting)}"
    return f"{', '.join(pool.name for pool in large)}: at the maximum, out of stock, or enough nodes join already"


def is_balloon(pod: Object) -> bool:
    return ((pod["metadata"].get("labels") or {}).get(names.BALLOON)) == "true"
