"""What simulated nodes look like."""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from atoll.base.names import LABEL_PREFIX, NOT_READY, SIMULATED_LABEL

Object = dict[str, Any]

FAKE_ANNOTATION = "kwok.x-k8s.io/node"  # KWOK's mark of a node that it is to manage
HEARTBEAT_ANNOTATION = f"{LABEL_PREFIX}heartbeat"  # on a node: "stopped" ends its heartbeats
FAILED_ANNOTATION = NOT_READY
RENEWED_ON_READ = f"{LABEL_PREFIX}renewed-on-read"  # on a lease: its holder is healthy until told otherwise
VERSION = "v1.36.3"

CONDITIONS = (
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("NetworkUnavailable", "False", "RouteCreated", "RouteController created a route"),
)


@dataclass(frozen=True, slots=True)
class SimulatedGroup:
    """So many nodes that are alike, named PREFIX-0, PREFIX-1 …"""

    count: int
    prefix: str = "sim"
    cpu: str = "16"
    memory: str = "64Gi"
    pods: int = 110
    resources: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    taints: list[dict[str, str]] = field(default_factory=list)
    zones: tuple[str, ...] = ()  # nodes take turns
    region: str = ""
    instance_type: str = ""
    names: tuple[str, ...] = ()  # in place of numbered ones

    def name(self, number: int) -> str:
        return self.names[number] if self.names else f"{self.prefix}-{number}"


def node_object(group: SimulatedGroup, number: int, address: str, now: str, pod_cidr: str = "") -> Object:
    """The Node as its kubelet would have registered it."""
    name = group.name(number)
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": "amd64",
        "node-role.kubernetes.io/simulated": "",
        "node.kubernetes.io/instance-type": group.instance_type or f"simulated-{group.cpu}cpu-{group.memory}",
        SIMULATED_LABEL: "true",
    }
    if group.zones:
        labels["topology.kubernetes.io/zone"] = group.zones[number % len(group.zones)]
    if group.region:
        labels["topology.kubernetes.io/region"] = group.region
    labels.update(group.labels)
    amounts = {
        "cpu": group.cpu,
        "memory": group.memory,
        "ephemeral-storage": "100Gi",
        "pods": str(group.pods),
        **group.resources,
    }
    spec: Object = {}
    if group.taints:
        spec["taints"] = [dict(taint) for taint in group.taints]
    if pod_cidr:
        spec |= {"podCIDR": pod_cidr, "podCIDRs": [pod_cidr]}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {FAKE_ANNOTATION: "fake", **group.annotations}},
        "spec": spec,
        "status": {
            "capacity": amounts,
            "allocatable": dict(amounts),
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "conditions": conditions(now),
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": node_info(),
            "phase": "Running",
        },
    }


def conditions(now: str) -> list[Object]:
    return [
        {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        for kind, status, reason, message in CONDITIONS
    ]


def node_info() -> Object:
    return {
        "architecture": "amd64",
        "bootID": "",
        "containerRuntimeVersion": "atoll://simulated",
        "kernelVersion": "simulated",
        "kubeProxyVersion": "",
        "kubeletVersion": f"{VERSION}-simulated",
        "machineID": "",
        "operatingSystem": "linux",
        "osImage": "simulated (no machine stands behind this node)",
        "systemUUID": "",
    }


def is_simulated(node: Object) -> bool:
    return (node["metadata"].get("annotations") or {}).get(FAKE_ANNOTATION) == "fake"


class AddressPool:
    """Addresses of one network, from its lower or upper end; its own and the gateway's are left out."""

    def __init__(self, cidr: str, *, from_top: bool = False) -> None:
        self._network = ipaddress.ip_network(cidr, strict=False)
        self._base = int(self._network.network_address)
        inside = range(2, self._network.num_addresses - 1)
        self._fresh: Iterator[int] = iter(reversed(inside) if from_top else inside)
        self._free: deque[str] = deque()
        self._used: set[str] = set()

    def take(self) -> str | None:
        """None when the network is used up."""
        for offset in self._fresh:
            address = self._text(self._base + offset)
            if address not in self._used:
                self._used.add(address)
                return address
        while self._free:  # the one given back longest ago
            address = self._free.popleft()
            if address not in self._used:
                self._used.add(address)
                return address
        return None

    def use(self, address: str) -> bool:
        """Mark an address that some object has already; False when it is not of this network."""
        if address in self._used:
            return True
        try:
            inside = ipaddress.ip_address(address) in self._network
        except ValueError:
            return False
        if inside:
            self._used.add(address)
        return inside

    def release(self, address: str) -> None:
        if address in self._used:
            self._used.discard(address)
            self._free.append(address)

    def _text(self, number: int) -> str:
        if self._network.version == 4:  # thousands are taken at once, and ipaddress' own way is slow
            return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        return str(ipaddress.IPv6Address(number))
