"""Which new nodes a set of pods takes: packed by the scheduling core onto nodes that come anyway and new ones. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from atoll.base.quantity import NANO
from atoll.capacity import names
from atoll.capacity.autoscale.devices import PoolDevices
from atoll.capacity.autoscale.model import Object
from atoll.capacity.autoscale.settings import Pool
from atoll.capacity.autoscale.trial import Surroundings, Trial, keeps_others_away, looks_around
from atoll.objects.meta import labels
from atoll.objects.pod_resources import pod_requests
from atoll.objects.resource_claims import pod_claims
from atoll.scheduling.matching import node_selector, untolerated

Amounts = Mapping[str, int]


def needs(pod: Object) -> dict[str, int]:
    """What it takes of a node, in nano-units."""
    return {**pod_requests(pod), "pods": NANO}


def allows(pool: Pool, pod: Object) -> bool:
    """Whether an empty node of the pool is one that the pod may go to, sizes apart."""
    spec = pod["spec"]
    own = {**pool.labels, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    if any(own.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = node_selector(affinity.get("requiredDuringSchedulingIgnoredDuringExecution"))
    if required is not None and not required("", own):
        return False
    return not untolerated([dict(taint) for taint in pool.node.taints], spec.get("tolerations") or [])


@dataclass(slots=True)
class Bin:
    """A node to come. `new`: it is not ordered yet; `balloon`: nothing but a balloon is on it."""

    name: str
    pool: str
    new: bool = False
    balloon: bool = True


def imagined(pool: Pool, name: str) -> Object:
    """The Node as it will be, open for work."""
    own = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        names.MACHINE: name,
        **pool.labels,
    }
    capacity = pool.node.capacity
    return {
        "metadata": {"name": name, "labels": own},
        "spec": {"taints": [dict(taint) for taint in pool.node.taints]},
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def daemons_on(pool: Pool, name: str, daemons: Sequence[Object]) -> list[Object]:
    """Pods that DaemonSets will put onto a node of the pool."""
    found = []
    for item in daemons:
        template, metadata = item["spec"]["template"], item["metadata"]
        pod = {
            "metadata": {
                "name": f"{metadata['name']}-{name}",
                "namespace": metadata.get("namespace"),
                "labels": (template.get("metadata") or {}).get("labels") or {},
            },
            "spec": template["spec"],
        }
        if allows(pool, pod):
            found.append(pod)
    return found


def pack(
    pods: Sequence[Object],
    pools: Sequence[Pool],
    coming: Sequence[Bin],
    room: Mapping[str, int],
    around: Surroundings,
    idle: Mapping[str, Object] = MappingProxyType({}),
) -> tuple[list[Bin], dict[str, str]]:
    """The largest first: pods onto nodes that are there and `idle`, then those that come anyway, then new ones of the
    cheapest pool that has `room`. The bins that were there or are made, and why pods were left over."""
    if not pods:
        return list(coming), {}
    known = {pool.name: pool for pool in pools}
    bins = {it.name: it for it in coming}
    trial = _Imagined(around, known)
    if looks_around(pods) or keeps_others_away(around.pods):
        trial.take_in(around.nodes, around.pods, but=bins)
    else:
        there = (pod for pod in around.pods if (pod.get("spec") or {}).get("nodeName") in idle)
        trial.take_in(idle.values(), there)
    for found in coming:
        trial.imagine(known[found.pool], found.name)
    left, unplaced = dict(room), dict[str, str]()
    cheapest = sorted(pools, key=lambda pool: (pool.price_per_hour, pool.name))
    for wanted, pod in sorted(((needs(pod), pod) for pod in pods), key=lambda item: _order(*item)):
        name = trial.put(pod)
        if name is None:
            fitting = [pool for pool in cheapest if allows(pool, pod)]
            large = [pool for pool in fitting if _holds(pool, wanted, trial)]
            open_pools = [pool for pool in large if left.get(pool.name, 0) > 0]
            made = trial.opened(pod, open_pools, len(bins))
            if made is None:
                told = f"{pod['metadata'].get('namespace')}/{pod['metadata']['name']}"
                unplaced[told] = trial.lacks(pod) or _why(pod, fitting, large, open_pools)
                continue
            left[made.pool] -= 1
            bins[made.name], name = made, made.name
        if name in bins and not is_balloon(pod):
            bins[name].balloon = False
    return list(bins.values()), unplaced


class _Imagined(Trial):
    """A trial to which nodes of the pools are added before they are made."""

    def __init__(self, around: Surroundings, pools: Mapping[str, Pool]) -> None:
        super().__init__(around)
        self._around = around
        self._pools = pools
        self._devices = PoolDevices(around.devices, around.nodes)
        self.publish(self._devices.shared())

    def add(self, node: Object) -> None:
        super().add(node)
        pool = self._pools.get(labels(node).get(names.POOL_LABEL) or "")
        self.publish(self._devices.of_node(node, pool), node["metadata"]["name"])

    def imagine(self, pool: Pool, name: str) -> None:
        super().add(imagined(pool, name))
        self.publish(self._devices.of_new(pool, name), name)
        for pod in daemons_on(pool, name, self._around.daemons):
            self.settle(pod, name)

    def opened(self, pod: Object, pools: Sequence[Pool], number: int) -> Bin | None:
        """A new node for the pod, of the first pool on one of which it fits."""
        for pool in pools:
            name = f"new-{number}-{pool.name}"
            self.imagine(pool, name)
            if self.put(pod) == name:
                return Bin(name, pool.name, new=True)
            self.drop(name)
        return None


def _holds(pool: Pool, wanted: Amounts, trial: Trial) -> bool:
    """What devices stand for is counted where they are."""
    amounts = pool.node.amounts
    return all(amounts.get(name, 0) >= amount or trial.stands_for(name) for name, amount in wanted.items() if amount)


def _order(wanted: Amounts, pod: Object) -> tuple[bool, int, int, int, str]:
    """Work before balloons; more GPUs, then more CPU and memory first."""
    gpus = sum(amount for name, amount in wanted.items() if name.startswith("nvidia.com/"))
    return is_balloon(pod), -gpus, -wanted.get("cpu", 0), -wanted.get("memory", 0), pod["metadata"]["name"]


def _why(pod: Object, fitting: Sequence[Pool], large: Sequence[Pool], open_pools: Sequence[Pool]) -> str:
    if not fitting:
        return "its node selector, affinity or tolerations fit no pool"
    if not large:
        return f"it is larger than a node of {', '.join(pool.name for pool in fitting)}"
    if open_pools:
        told = ", ".join(pool.name for pool in open_pools)
        if pod_claims(pod):
            return f"a new node of {told} would not have the devices of its claims, or something else keeps it off"
        return f"affinity to other pods, topology spread, ports, volumes or daemons keep it off a new node of {told}"
    return f"{', '.join(pool.name for pool in large)}: at the maximum, out of stock, or enough nodes join already"


def is_balloon(pod: Object) -> bool:
    return ((pod["metadata"].get("labels") or {}).get(names.BALLOON)) == "true"
