"""The Service default/kubernetes and its endpoints, by which the API server is found from within its cluster.

Written at the start, as upstream's kubernetesservice controller does; level: what is there and differs is put right.
"""

from __future__ import annotations

import asyncio
from typing import Any

from atoll.base.errors import AlreadyExists, NotFound
from atoll.client.port import Client
from atoll.kinds.builtin import ENDPOINT_SLICES, ENDPOINTS, SERVICES
from atoll.kinds.resource import Resource

Object = dict[str, Any]
_SERVICE_CIDRS = Resource("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", False)
_NAMESPACE, _NAME = "default", "kubernetes"


async def publish(client: Client, *, cluster_ip: str, address: str, port: int, service_cidr: str) -> None:
    """`address` must not be loopback (real API servers refuse that in endpoints). Raises AtollError."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": _NAME,
            "namespace": _NAMESPACE,
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": cluster_ip,
            "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
        },
    }
    ports = [{"name": "https", "port": port, "protocol": "TCP"}]
    subsets = [{"addresses": [{"ip": address}], "ports": ports}]
    endpoints = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": _NAME,
            "namespace": _NAMESPACE,
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": subsets,
    }
    ready = [{"addresses": [address], "conditions": {"ready": True}}]
    found = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": _NAME, "namespace": _NAMESPACE, "labels": {"kubernetes.io/service-name": _NAME}},
        "addressType": "IPv4",
        "endpoints": ready,
        "ports": ports,
    }
    await asyncio.gather(  # in one commit
        _publish_range(client, service_cidr),
        _ensure(client, SERVICES, service, "spec", {"ports": service["spec"]["ports"]}),  # type: ignore[index]
        _ensure(client, ENDPOINTS, endpoints, "", {"subsets": subsets}),
        _ensure(client, ENDPOINT_SLICES, found, "", {"endpoints": ready, "ports": ports}),
    )


async def _publish_range(client: Client, cidr: str) -> None:
    """The default ServiceCIDR, which shows where ClusterIPs come from."""
    spec = {"cidrs": [cidr]}
    body = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": _NAME, "finalizers": ["networking.k8s.io/service-cidr-finalizer"]},
        "spec": spec,
    }
    try:
        made = await client.create(_SERVICE_CIDRS, body)
    except AlreadyExists:
        return
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "",
        "message": "Kubernetes default Service CIDR is ready",
        "lastTransitionTime": made["metadata"]["creationTimestamp"],
    }
    await client.patch(_SERVICE_CIDRS, _NAME, {"status": {"conditions": [ready]}}, subresource="status")


async def _ensure(client: Client, resource: Resource, obj: Object, field: str, wanted: Object) -> None:
    try:
        present = await client.get(resource, _NAME, _NAMESPACE)
    except NotFound:
        try:
            await client.create(resource, obj, _NAMESPACE)
            return
        except AlreadyExists:
            present = await client.get(resource, _NAME, _NAMESPACE)
    part = present.get(field) or {} if field else present
    if any(part.get(key) != value for key, value in wanted.items()):
        await client.patch(resource, _NAME, {field: wanted} if field else wanted, _NAMESPACE)
