"""Process nodes and the cluster's network, wired to one cluster's API in its process."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from atoll.app.assembly import Assembly
from atoll.app.fleetspec import ClusterSpec, ProcessNodeSpec
from atoll.app.gpus import gpu_devices
from atoll.app.pki import ClusterKeys
from atoll.app.tasks import Tasks
from atoll.base.errors import UserError
from atoll.base.names import PROCESS_LABEL
from atoll.cluster.apiserver.ports import User
from atoll.cluster.gpus.controller import NAME
from atoll.cluster.gpus.inventory import Inventory
from atoll.cluster.network.controller import ClusterNetwork, NetworkConfig, process_node_cidr
from atoll.cluster.nodes.kernel.journal import Journal
from atoll.cluster.nodes.kernel.kmsg import Kmsg
from atoll.cluster.nodes.kernel.port import FirstLog
from atoll.cluster.nodes.process import machine
from atoll.cluster.nodes.process.cgroups import find_hierarchy
from atoll.cluster.nodes.process.doctor import diagnose
from atoll.cluster.nodes.process.model import NodeConfig
from atoll.cluster.nodes.process.node import ProcessNode
from atoll.cluster.nodes.process.podnetwork import host_address
from atoll.runtime.informer import Informers
from atoll.wire.tls import server_context

_TAINT = {"key": PROCESS_LABEL, "value": "true", "effect": "NoSchedule"}


def network_id(folder: Path, cluster: str) -> str:
    """A name for the machine-wide parts (bridge, namespaces): the same for a state folder each time."""
    return f"{cluster}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"


async def start_process_nodes(
    assembly: Assembly,
    informers: Informers,
    tasks: Tasks,
    spec: ClusterSpec,
    images: Sequence[dict[str, Any]],
    folder: Path,
    keys: ClusterKeys,
    port: int,
) -> None:
    """Start the network, then the nodes. `port`: the API server's. Raises OSError, UserError."""
    found = diagnose()
    if found.mode == "none":
        raise UserError(f"process nodes can't run here: {found.reason}", hint="`atoll doctor` says more")
    config = NetworkConfig(
        cluster=network_id(folder, spec.name),
        mode=found.mode,
        pod_cidr=spec.pod_cidr,
        service_cidr=spec.service_cidr,
        state_dir=folder,
        api_server=("127.0.0.1", port),
    )
    network = ClusterNetwork(
        assembly.controller_client("kube-proxy"),
        config,
        clock=assembly.clock,
        chance=assembly.chance.stream("network"),
        informers=informers,
    )
    network.open()
    tasks.start("network", network.run())
    authority = keys.authority()
    inventory = Inventory(informers)
    numbered = [ProcessNodeSpec(f"{spec.node_prefix}-process-{index}") for index in range(spec.process_nodes)]
    for index, wanted in enumerate([*numbered, *spec.named_process_nodes]):
        name = wanted.name
        devices, annotations = gpu_devices(wanted, inventory, assembly.clock)
        node_config = _node_config(spec, config, wanted, index, images, overlays=found.overlays)
        node_config = replace(node_config, annotations={**wanted.annotations, **annotations})
        address = node_config.pod_cidr.rsplit(".", 1)[0] + ".1" if node_config.pod_cidr else host_address()
        certificate = authority.server(name, names=[name], addresses=[address])
        context = server_context(certificate.certificate_pem, certificate.key_pem, keys.ca_pem)
        user = User(f"system:node:{name}", ("system:nodes", "system:authenticated"))
        node = ProcessNode(
            assembly.client(user, "kubelet"),
            name,
            node_config,
            clock=assembly.clock,
            chance=assembly.chance.stream(f"process-node/{name}"),
            tls=context,
            devices=devices,
            kernel_log=FirstLog(Kmsg(assembly.clock, machine.boot_id()), Journal()),
        )
        tasks.start(name, node.run())
        if devices is not None and wanted.gpus:
            tasks.start(f"{name}-gpus", devices.watch(assembly.controller_client(NAME)))


def _node_config(
    spec: ClusterSpec,
    network: NetworkConfig,
    wanted: ProcessNodeSpec,
    index: int,
    images: Sequence[dict[str, Any]],
    *,
    overlays: bool,
) -> NodeConfig:
    in_bridge = network.mode == "bridge"
    places = {"region": spec.region, "zone": spec.zone}
    return NodeConfig(
        cluster=network.cluster,
        cluster_title=spec.name,
        state_dir=network.state_dir / "nodes" / wanted.name,
        volumes_dir=network.state_dir / "volumes",
        mode=network.mode,
        kubelet_port=10250 if in_bridge else 0,
        pod_cidr=process_node_cidr(spec.pod_cidr, index) if in_bridge else "",
        cluster_dns=network.dns_address if in_bridge else "",
        labels={f"topology.kubernetes.io/{kind}": value for kind, value in places.items() if value} | wanted.labels,
        taints=[_TAINT] if spec.process_nodes_tainted else [],
        images=images,
        overlays=overlays,
        hierarchy=find_hierarchy() if in_bridge else None,
    )
