"""Process nodes and their network joined to a running control plane through its client port: a process of its own.

Its argument is a JSON file: server, ca (PEM), port, folder, images, and for each node name, certificate and key (as
system:node:NAME), serving certificate and key; the network runs as `admin`. It prints "ready" once all nodes are.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

from atoll.base.chance import Chance
from atoll.base.clock import SystemClock
from atoll.client.http import HttpClient
from atoll.client.kubeconfig import Access
from atoll.cluster.network.controller import ClusterNetwork, NetworkConfig
from atoll.cluster.nodes.process.cgroups import find_hierarchy
from atoll.cluster.nodes.process.doctor import diagnose
from atoll.cluster.nodes.process.model import NodeConfig
from atoll.cluster.nodes.process.node import ProcessNode
from atoll.wire.tls import server_context

CLOCK = SystemClock()


async def main(config: dict[str, Any]) -> None:
    """Until SIGTERM."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    folder = Path(config["folder"])
    admin = HttpClient(_access(config, config["admin"]), clock=CLOCK)
    network_config = NetworkConfig(
        config["cluster"], "bridge", config["pod_cidr"], config["service_cidr"], folder,
        api_server=("127.0.0.1", config["port"]),
    )  # fmt: skip
    network = ClusterNetwork(admin, network_config, clock=CLOCK, chance=Chance(1))
    tasks = [asyncio.create_task(network.run())]
    clients = [admin]
    try:
        await network.opened.wait()
        for index, item in enumerate(config["nodes"]):
            client = HttpClient(_access(config, item), clock=CLOCK, field_manager="kubelet")
            clients.append(client)
            node = _node(config, item, client, network_config.dns_address, index)
            tasks.append(asyncio.create_task(node.run()))
            await asyncio.wait_for(node.ready.wait(), 30)
        print("ready", flush=True)
        await ended.wait()
    finally:
        for task in reversed(tasks):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        for client in clients:
            await client.close()


def _access(config: dict[str, Any], who: dict[str, str]) -> Access:
    return Access(
        server=config["server"], ca_pem=config["ca"].encode(),
        certificate_pem=who["certificate"].encode(), key_pem=who["key"].encode(),
    )  # fmt: skip


def _node(config: dict[str, Any], item: dict[str, str], client: HttpClient, dns: str, index: int) -> ProcessNode:
    folder = Path(config["folder"])
    node_config = NodeConfig(
        config["cluster"], folder / item["name"], folder / "volumes", mode="bridge", pod_cidr=item["pod_cidr"],
        cluster_dns=dns, images=config["images"], overlays=diagnose().overlays, hierarchy=find_hierarchy(),
    )  # fmt: skip
    tls = server_context(
        item["serving_certificate"].encode(), item["serving_key"].encode(), config["kubelet_ca"].encode()
    )
    return ProcessNode(client, item["name"], node_config, clock=CLOCK, chance=Chance(2 + index), tls=tls)


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
