"""What stage templates may ask about simulated nodes and their pods: names, addresses, the time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from atoll.base.clock import Clock, rfc3339
from atoll.cluster.nodes.simulated.model import AddressPool

Object = dict[str, Any]


class Addresses:
    """Addresses of simulated nodes and their pods, from the nodes' pod CIDRs."""

    def __init__(self, node_cidr: str, pod_cidr: str, node: Callable[[str], Object | None]) -> None:
        self._nodes = AddressPool(node_cidr)
        self._default = pod_cidr
        self._node = node
        self._pools: dict[str, AddressPool] = {}
        self._pods: dict[str, list[str]] = {}  # pod uid -> addresses
        self._of_nodes: dict[str, tuple[Object, list[str]]] = {}  # of each, as it is known

    def new_node(self) -> str:
        """An address for a node. Falls back to the network's first one when it is used up."""
        return self._nodes.take() or "10.0.0.1"

    def of_node(self, name: str) -> list[str]:
        """Its own; shared, never to be changed."""
        node = self._node(name)
        if node is None:
            self._of_nodes.pop(name, None)
            return []
        known = self._of_nodes.get(name)
        if known is not None and known[0] is node:
            return known[1]
        addresses = (node.get("status") or {}).get("addresses") or ()
        found = [item["address"] for item in addresses if item.get("type") == "InternalIP"]
        for address in found:
            self._nodes.use(address)
        self._of_nodes[name] = (node, found)
        return found

    def forget_node(self, name: str) -> None:
        """It is gone."""
        self._of_nodes.pop(name, None)

    def of_pod(self, node_name: str, uid: str) -> list[str]:
        """The pod's addresses; taken on the first call."""
        known = self._pods.get(uid)
        if known is not None:
            return known
        spec = (self._node(node_name) or {}).get("spec") or {}
        cidrs = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [self._default])
        found = []
        for cidr in cidrs:
            address = self._pool(cidr).take() or (self._pool(self._default).take() if cidr != self._default else None)
            if address is not None:
                found.append(address)
        if uid:
            self._pods[uid] = found
        return found

    def learn(self, pod: Object) -> None:
        """A pod that has addresses already (after a restart)."""
        uid, status = pod["metadata"].get("uid"), pod.get("status") or {}
        if not status.get("podIP") or uid in self._pods or (pod.get("spec") or {}).get("hostNetwork"):
            return
        spec = (self._node(pod["spec"].get("nodeName") or "") or {}).get("spec") or {}
        cidrs = [*(spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])), self._default]
        found = [item["ip"] for item in status.get("podIPs") or ({"ip": status["podIP"]},)]
        for address in found:
            for cidr in cidrs:
                if self._pool(cidr).use(address):
                    break
        self._pods[uid] = found

    def release(self, uid: str) -> None:
        for address in self._pods.pop(uid, ()):
            for pool in self._pools.values():
                pool.release(address)

    def _pool(self, cidr: str) -> AddressPool:
        pool = self._pools.get(cidr)
        if pool is None:
            # The common network also holds the nodes' own: its addresses are taken where theirs come last.
            pool = self._pools[cidr] = AddressPool(cidr, from_top=cidr == self._default)
        return pool


class _Common:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started = rfc3339(clock.wall())

    def now(self) -> str:
        return rfc3339(self._clock.wall())

    def _times(self) -> dict[str, Any]:
        return {"Now": self.now, "StartTime": lambda: self._started}


class Devices(Protocol):
    """A simulated kubelet's device manager."""

    async def ready(self) -> None:
        """Return once `give` knows what pods hold."""

    def give(self, pod: Mapping[str, Any]) -> Mapping[str, list[Object]]:
        """Container → its status.allocatedResourcesStatus; the same again for the same pod. Raises AtollError."""


class PodFunctions(_Common):
    """For pods' templates."""

    def __init__(self, addresses: Addresses, clock: Clock, devices: Devices | None = None) -> None:
        super().__init__(clock)
        self._addresses = addresses
        self._devices = devices

    def devices(self, pod: Object) -> Mapping[str, list[Object]]:
        """What the pod's containers get of its node's devices. Raises AtollError where the node has them no more."""
        return {} if self._devices is None else self._devices.give(pod)

    def node_addresses(self, node_name: str) -> list[str]:
        return self._addresses.of_node(node_name)

    def pod_addresses(self, node_name: str, host_network: bool, uid: str) -> list[str]:
        if host_network:
            return self._addresses.of_node(node_name)
        return self._addresses.of_pod(node_name, uid)

    def table(self, obj: Object) -> Mapping[str, Any]:
        spec, uid = obj.get("spec") or {}, obj["metadata"].get("uid") or ""
        node = spec.get("nodeName") or ""

        def pod_ips(name: Any = node, host: Any = False, given: Any = uid, *_: Any) -> list[str]:
            return self.pod_addresses(str(name or node), bool(host), str(given or uid))

        def node_ips(name: Any = node) -> list[str]:
            return self.node_addresses(str(name or node))

        return {
            **self._times(),
            "NodeIP": lambda: _first(node_ips()),
            "NodeIPs": node_ips,
            "NodeIPWith": lambda name=node: _first(node_ips(name)),
            "NodeIPsWith": node_ips,
            "PodIP": lambda: _first(pod_ips()),
            "PodIPs": pod_ips,
            "PodIPWith": lambda *args: _first(pod_ips(*args)),
            "PodIPsWith": pod_ips,
        }


class NodeFunctions(_Common):
    """For nodes' templates."""

    port = 10250

    def __init__(self, addresses: Addresses, clock: Clock) -> None:
        super().__init__(clock)
        self._addresses = addresses

    def address(self, name: str) -> str:
        return _first(self._addresses.of_node(name)) or self._addresses.new_node()

    def table(self, obj: Object) -> Mapping[str, Any]:
        name = obj["metadata"]["name"]
        return {
            **self._times(),
            "NodeIP": lambda: self.address(name),
            "NodeIPs": lambda: [self.address(name)],
            "NodeName": lambda: name,
            "NodePort": lambda: self.port,
        }


class OtherFunctions(_Common):
    """For templates of any other kind."""

    def table(self, obj: Object) -> Mapping[str, Any]:
        return self._times()


def _first(items: list[str]) -> str:
    return items[0] if items else ""
