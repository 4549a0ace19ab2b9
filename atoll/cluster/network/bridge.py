"""The cluster's bridge: one link in the host's network namespace, named after the cluster.

Every route and address hangs on it, so that deleting the bridge takes all of a cluster's network away, also after
a kill -9. The whole pod and service ranges are routed to the host itself ("local"), with each process node's pod
range (longer, hence stronger) on the bridge: a ClusterIP can be listened on without being added, and what nobody
serves, as a simulated pod's address, is refused at once instead of timing out.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
from contextlib import suppress
from pathlib import Path

from atoll.base.errors import UserError
from atoll.cluster.network.netlink import ROUTE_LOCAL, Netlink

_PREFIX = "atl"
_LEAVING_LOOKS, _LEAVING_SECONDS = 150, 0.02


def bridge_name(cluster: str) -> str:
    """The link's name for a cluster: at most 15 bytes, the same each time."""
    return _PREFIX + hashlib.sha256(cluster.encode()).hexdigest()[:10]


def veth_name(pod_uid: str) -> str:
    """The host's end of a pod's veth pair."""
    return "atv" + hashlib.sha256(pod_uid.encode()).hexdigest()[:11]


def cleanup(cluster: str) -> bool:
    """Remove what a killed cluster of that name left in the host's network. True if there was something."""
    with Netlink() as netlink:
        index = netlink.index(bridge_name(cluster))
        if index is None:
            return False
        netlink.delete_link(index)
        return True


class ClusterBridge:
    """Made by `open`; `close` removes it with all that hangs on it."""

    def __init__(self, cluster: str, index: int) -> None:
        self.cluster = cluster
        self.name = bridge_name(cluster)
        self.index = index

    @classmethod
    def open(cls, cluster: str, *, pod_cidr: str, service_cidr: str) -> ClusterBridge:
        """Make the bridge anew (a left-over one is removed first).

        Raises OSError without root, UserError for a range that is in use.
        """
        cleanup(cluster)
        with Netlink() as netlink:
            index = netlink.add_bridge(bridge_name(cluster), f"atoll cluster {cluster}"[:200])
            netlink.set_up(index)
            bridge = cls(cluster, index)
            for cidr in (pod_cidr, service_cidr):
                try:
                    netlink.add_route(cidr, index=index, kind=ROUTE_LOCAL)
                except OSError as error:
                    netlink.delete_link(index)
                    raise UserError(
                        f"the address range {cidr} can't be routed to cluster {cluster}: {error.strerror}",
                        hint="something else on this machine may use it: name another podCIDR or serviceCIDR",
                    ) from None
        bridge._configure("forwarding", "1")  # between the pod ranges of two nodes
        bridge._configure("send_redirects", "0")
        bridge._configure("rp_filter", "0")
        return bridge

    @classmethod
    def existing(cls, cluster: str) -> ClusterBridge | None:
        """The bridge that another part of this cluster has opened."""
        with Netlink() as netlink:
            index = netlink.index(bridge_name(cluster))
        return None if index is None else cls(cluster, index)

    def add_node(self, pod_cidr: str) -> str:
        """Put a node's pod range on the bridge; its first address is the gateway and the node's own. Returns it."""
        network = ipaddress.ip_network(pod_cidr)
        gateway = str(network.network_address + 1)
        with Netlink() as netlink:
            netlink.ensure_address(self.index, gateway, network.prefixlen)
        return gateway

    async def close(self) -> None:
        """Remove it, and wait until the pods' links, which their namespaces take along, are gone too."""
        with suppress(OSError), Netlink() as netlink:
            ports = netlink.ports(self.index)
            cleanup(self.cluster)
            for _ in range(_LEAVING_LOOKS):
                ports = [name for name in ports if netlink.index(name) is not None]
                if not ports:
                    return
                await asyncio.sleep(_LEAVING_SECONDS)

    def _configure(self, key: str, value: str) -> None:
        with suppress(OSError):
            Path(f"/proc/sys/net/ipv4/conf/{self.name}/{key}").write_text(value)
