"""A cluster's network in one part: its bridge, its service proxy, its name server.

In "bridge" mode (root) ClusterIPs, node ports and names work from process pods and from the host. In "host" mode there
are node ports only, on the host's own address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.base.names import HOST_PORTS, PROCESS_LABEL
from atoll.client.port import Client
from atoll.cluster.network.bridge import ClusterBridge, cleanup
from atoll.cluster.network.dns import DnsServer
from atoll.cluster.network.proxy import ServiceProxy
from atoll.cluster.network.records import build_zone
from atoll.cluster.network.services import (
    SERVICE_LABEL,
    Forward,
    Key,
    Listener,
    NodeAddress,
    host_port_forwards,
    plan_forwards,
)
from atoll.kinds.builtin import ENDPOINT_SLICES, NODES, PODS, SERVICES
from atoll.runtime.informer import Informers

Object = dict[str, Any]
log = logging.getLogger(__name__)
MARKER = "network.json"
_SETTLE_SECONDS = 0.01
_RETRY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """`api_server`: where default/kubernetes leads, whatever its endpoints say. `state_dir` gets a marker by which
    `cleanup` finds what a killed cluster left."""

    cluster: str
    mode: str  # bridge or host
    pod_cidr: str
    service_cidr: str
    state_dir: Path
    cluster_domain: str = "cluster.local"
    api_server: tuple[str, int] | None = None

    @property
    def dns_address(self) -> str:
        """The tenth address of the service range, as kubeadm has it."""
        return str(ipaddress.ip_network(self.service_cidr)[10])

    @property
    def gateway(self) -> str:
        """The first address of the pod range: the host as every pod may reach it; the API server's for endpoints."""
        return str(ipaddress.ip_network(self.pod_cidr)[1])


def process_node_cidr(pod_cidr: str, index: int) -> str:
    """The pod range of the index-th process node: /24s from the end of the cluster's, which simulated nodes fill from
    its start. Raises ValueError when there are too many."""
    network = ipaddress.ip_network(pod_cidr)
    count = 1 << max(24 - network.prefixlen, 0)
    if index + 1 >= count:
        raise ValueError(f"{pod_cidr} has no room for {index + 1} process nodes")
    base = int(network.network_address) + (count - 1 - index) * 256
    return f"{ipaddress.ip_address(base)}/24"


class ClusterNetwork:
    """`opened` is set once the bridge is there (process nodes may start), `ready` once services are served."""

    def __init__(
        self,
        client: Client,
        config: NetworkConfig,
        *,
        clock: Clock,
        chance: Chance,
        informers: Informers | None = None,
    ) -> None:
        self.config = config
        self.opened = asyncio.Event()
        self.ready = asyncio.Event()
        self._own = informers is None
        self._informers = informers or Informers(client)
        self._proxy = ServiceProxy(clock, chance)
        self._dns = DnsServer(build_zone(config.cluster_domain, (), {}), chance)
        self._dirty = asyncio.Event()
        self._bridge: ClusterBridge | None = None
        self._services = self._informers.of(SERVICES)
        self._slices = self._informers.of(ENDPOINT_SLICES)
        self._nodes = self._informers.of(NODES)
        self._pods = self._informers.of(PODS)
        self._slices.add_index("proxied", _service_of)  # "service" is the slice controller's, of its own slices
        self._nodes.add_index("process", _process_node)
        self._pods.add_index("ports", _special_ports)

    def open(self) -> None:
        """Make the bridge; `run` does it otherwise. Raises OSError, or UserError for address ranges in use."""
        if not self.opened.is_set():
            self._bridge = self._open_bridge()
            self.opened.set()

    async def run(self) -> None:
        """Until cancelled; then nothing of it is left on the machine. Raises what `open` does."""
        self.open()
        bridge = self._bridge
        try:
            if self._own:
                self._informers.start()
            for informer in (self._services, self._slices, self._nodes, self._pods):
                await informer.synced.wait()
            for informer in (self._services, self._slices, self._nodes):
                informer.add_handler(self._changed)
            self._pods.add_handler(self._pod_changed)
            if bridge is not None:
                await self._dns.open(self.config.dns_address)
            await self._keep()
        finally:
            if self._own:
                await self._informers.stop()
            await self._dns.close()
            await self._proxy.close()
            if bridge is not None:
                await bridge.close()

    def _open_bridge(self) -> ClusterBridge | None:
        config = self.config
        if config.mode != "bridge":
            return None
        config.state_dir.mkdir(parents=True, exist_ok=True)
        (config.state_dir / MARKER).write_text(json.dumps({"cluster": config.cluster}))
        return ClusterBridge.open(config.cluster, pod_cidr=config.pod_cidr, service_cidr=config.service_cidr)

    def _changed(self, *_: object) -> None:
        self._dirty.set()

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if any(True for obj in (old, new) if obj is not None and any(_special_ports(obj))):
            self._dirty.set()

    async def _keep(self) -> None:
        while True:
            self._dirty.clear()
            await self._apply()
            self.ready.set()
            try:
                retry = _RETRY_SECONDS if self._proxy.refused else None
                await asyncio.wait_for(self._dirty.wait(), retry)
            except TimeoutError:
                continue
            await asyncio.sleep(_SETTLE_SECONDS)  # many changes come together

    async def _apply(self) -> None:
        config = self.config
        slices = {key: self._slices.by_index("proxied", key) for key in self._service_keys()}
        nodes = self._process_nodes()
        chosen = {(_namespace(pod), pod["metadata"]["name"]): pod for pod in self._pods.by_index("ports", "chosen")}
        bridged = config.mode == "bridge"
        overrides: dict[Key, tuple[str, int]] = {}
        if config.api_server:
            overrides["default", "kubernetes"] = config.api_server
        forwards = plan_forwards(
            self._services, slices, nodes=nodes, pods=chosen, cluster_ips=bridged, overrides=overrides
        )
        if bridged:
            forwards |= host_port_forwards(self._pods.by_index("ports", "host"), [node.address for node in nodes])
            forwards |= self._api_server()
            self._dns.zone = build_zone(config.cluster_domain, self._services, slices)
            forwards = {key: value for key, value in forwards.items() if not self._is_dns(key)}
        await self._proxy.apply(forwards)

    def _api_server(self) -> dict[Listener, Forward]:
        """The API server at the address that its endpoints tell, which can't be loopback."""
        target = self.config.api_server
        if target is None:
            return {}
        return {Listener("TCP", self.config.gateway, target[1]): Forward("the API server", (target,))}

    def _is_dns(self, listener: Listener) -> bool:
        return listener.address == self.config.dns_address and listener.port == 53

    def _service_keys(self) -> list[Key]:
        return [(_namespace(service), service["metadata"]["name"]) for service in self._services]

    def _process_nodes(self) -> Sequence[NodeAddress]:
        found: dict[str, NodeAddress] = {}
        for node in self._nodes.by_index("process", "true"):
            name, cidr = node["metadata"]["name"], node["spec"].get("podCIDR") or ""
            for address in (node.get("status") or {}).get("addresses") or []:
                if address["type"] == "InternalIP":
                    found.setdefault(address["address"], NodeAddress(name, address["address"], cidr))
        return list(found.values())


def _namespace(obj: Object) -> str | None:
    found: str | None = obj["metadata"].get("namespace")
    return found


def _service_of(obj: Object) -> list[Key]:
    name = (obj["metadata"].get("labels") or {}).get(SERVICE_LABEL)
    return [(_namespace(obj), name)] if name else []


def _process_node(node: Object) -> list[str]:
    return ["true"] if (node["metadata"].get("labels") or {}).get(PROCESS_LABEL) == "true" else []


def _special_ports(pod: Object) -> list[str]:
    out = []
    if HOST_PORTS in (pod["metadata"].get("annotations") or {}):
        out.append("chosen")
    if any(port.get("hostPort") for container in pod["spec"]["containers"] for port in container.get("ports") or []):
        out.append("host")
    return out


def clean(folder: Path) -> str | None:
    """Remove from this machine what a killed cluster with that state folder left: its bridge and all on it. The name
    of its machine-wide parts, where there were some."""
    marker = folder / MARKER
    try:
        cluster = json.loads(marker.read_text())["cluster"]
    except (OSError, ValueError, KeyError):
        return None
    cleanup(cluster)
    marker.unlink(missing_ok=True)
    return str(cluster)
