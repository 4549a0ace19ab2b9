"""The two ways in which pods get their addresses: a namespace each on the cluster's bridge, or the host's network."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from contextlib import AbstractContextManager, suppress
from typing import Any

from atoll.cluster.network.bridge import ClusterBridge, veth_name
from atoll.cluster.network.namespaces import NetworkNamespace
from atoll.cluster.network.netlink import Netlink
from atoll.cluster.nodes.process.model import PodAddress

Object = dict[str, Any]


class BridgeNetwork:
    """Root only. Addresses come from the node's pod range, the first of which is the node itself."""

    def __init__(self, bridge: ClusterBridge, pod_cidr: str) -> None:
        self._bridge = bridge
        self._range = ipaddress.ip_network(pod_cidr)
        self.gateway = bridge.add_node(pod_cidr)
        self._held: dict[str, PodAddress] = {}
        self._used: set[int] = set()
        self._last = 1

    def attach(self, pod: Object) -> PodAddress:
        uid = pod["metadata"]["uid"]
        if pod["spec"].get("hostNetwork"):
            return PodAddress(self.gateway)
        number = self._before(pod) or self._free()
        address = str(self._range.network_address + number)
        namespace = NetworkNamespace()
        try:
            self._delete_link(uid)
            namespace.connect_veth(self._bridge.index, veth_name(uid), address, self._range.prefixlen, self.gateway)
        except OSError:
            namespace.close()
            raise
        self._used.add(number)
        self._held[uid] = held = PodAddress(address, namespace)
        return held

    def _before(self, pod: Object) -> int | None:
        """The address that the pod had under an earlier node process, where it is still free."""
        address = (pod.get("status") or {}).get("podIP")
        if not address or ipaddress.ip_address(address) not in self._range:
            return None
        number = int(ipaddress.ip_address(address)) - int(self._range.network_address)
        return None if number in self._used or number == 1 else number

    def _free(self) -> int:
        size = self._range.num_addresses
        for step in range(1, size):
            number = (self._last + step) % size
            if number not in (0, 1, size - 1) and number not in self._used:
                self._last = number
                return number
        raise OSError(f"no free address in {self._range}")

    def detach(self, uid: str) -> None:
        held = self._held.pop(uid, None)
        if held is None:
            return
        self._used.discard(int(ipaddress.ip_address(held.ip)) - int(self._range.network_address))
        if held.namespace is not None:
            # the kernel takes the veth pair away with it, in the background; to delete a link oneself blocks for long
            held.namespace.close()

    def _delete_link(self, uid: str) -> None:
        with suppress(OSError), Netlink() as netlink:
            index = netlink.index(veth_name(uid))
            if index is not None:
                netlink.delete_link(index)

    def entered(self, address: PodAddress) -> AbstractContextManager[None]:
        return contextlib.nullcontext() if address.namespace is None else address.namespace.entered()


class HostNetwork:
    """Without root: every pod has the host's address, and a free port for each port that its containers declare."""

    def __init__(self, address: str) -> None:
        self._address = address

    def attach(self, pod: Object) -> PodAddress:
        ports: dict[int, int] = {}
        spec = pod["spec"]
        for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
            for port in container.get("ports") or []:
                if port.get("protocol", "TCP") == "TCP" and not spec.get("hostNetwork"):
                    ports[port["containerPort"]] = _free_port()
        return PodAddress(self._address, None, ports)

    def detach(self, uid: str) -> None:
        return

    def entered(self, address: PodAddress) -> AbstractContextManager[None]:
        return contextlib.nullcontext()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def host_address() -> str:
    """The machine's own address that others reach it by; never loopback. Raises OSError where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # TEST-NET-1: nothing is sent, the kernel only picks the route
        return str(probe.getsockname()[0])
