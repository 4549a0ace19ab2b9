"""Process nodes without root: containers closed in, on the host's network, with free ports chosen for them."""

import asyncio
import json

import pytest

from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.base.chance import Chance
from atoll.base.clock import SystemClock
from atoll.cluster.network.controller import ClusterNetwork, NetworkConfig
from atoll.cluster.nodes.process.doctor import diagnose
from atoll.cluster.nodes.process.model import NodeConfig
from atoll.cluster.nodes.process.node import ProcessNode
from atoll.cluster.nodes.process.podnetwork import host_address
from atoll.cluster.store.memory import MemoryStore
from atoll.kinds.builtin import ENDPOINT_SLICES, PODS, SERVICE_ACCOUNTS, SERVICES
from atoll.objects.meta import condition

pytestmark = pytest.mark.skipif(diagnose().mode == "none", reason=f"no containers here: {diagnose().reason}")
CLOCK = SystemClock()


def backend(name):
    container = {
        "name": "c",
        "image": "atoll.dev/hello-backend",
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": "node", "automountServiceAccountToken": False, "containers": [container]},
    }


async def until(what):
    async with asyncio.timeout(20):
        while not (found := await what()):
            await asyncio.sleep(0.02)
        return found


async def ask(address, port):
    reader, writer = await asyncio.open_connection(address, port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return json.loads(answer.partition(b"\r\n\r\n")[2])


async def scenario(folder):
    assembly = assemble(MemoryStore(CLOCK), CLOCK, Chance(1), ApiOptions())
    await bootstrap(assembly)
    client = assembly.client()
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "default"}}
    await client.create(SERVICE_ACCOUNTS, account, "default")
    network = ClusterNetwork(
        client, NetworkConfig("host-test", "host", "10.1.0.0/16", "10.96.0.0/16", folder), clock=CLOCK, chance=Chance(2)
    )
    config = NodeConfig("host-test", folder / "node", folder / "volumes", cluster_title="here")
    node = ProcessNode(client, "node", config, clock=CLOCK, chance=Chance(3))
    tasks = [asyncio.create_task(network.run()), asyncio.create_task(node.run())]
    try:
        await until(lambda: _is_set(node.ready))
        for name in ("one", "two"):
            await client.create(PODS, backend(name), "default")
        pods = [await until(lambda name=name: _ready(client, name)) for name in ("one", "two")]
        return await _check(client, network, pods)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _is_set(event):
    return event.is_set()


async def _ready(client, name):
    pod = await client.get(PODS, name, "default")
    return pod if (condition(pod, "Ready") or {}).get("status") == "True" else None


async def _check(client, network, pods):
    ports = [int(pod["metadata"]["annotations"]["atoll.dev/host-ports"].removeprefix("8080=")) for pod in pods]
    assert len(set(ports)) == 2
    address = host_address()
    assert {pod["status"]["podIP"] for pod in pods} == {address}
    for pod, port in zip(pods, ports, strict=True):
        answer = await ask(address, port)
        assert answer == {"message": "hello", "pod": pod["metadata"]["name"], "cluster": "here", "node": "node"}
    spec = {"type": "NodePort", "ports": [{"name": "http", "port": 80}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"}, "spec": spec}
    made = await client.create(SERVICES, service, "default")
    endpoints = [
        {
            "addresses": [address],
            "conditions": {"ready": True},
            "targetRef": {"kind": "Pod", "namespace": "default", "name": pod["metadata"]["name"]},
        }
        for pod in pods
    ]
    labels = {"kubernetes.io/service-name": "web"}
    found = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "namespace": "default", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    }
    await client.create(ENDPOINT_SLICES, found, "default")
    node_port = made["spec"]["ports"][0]["nodePort"]

    async def through():
        try:
            return {(await ask(address, node_port))["pod"] for _ in range(4)}
        except OSError:
            return None

    return await until(through)


def test_free_ports_are_chosen_and_node_ports_lead_to_them(tmp_path):
    assert asyncio.run(scenario(tmp_path)) == {"one", "two"}
