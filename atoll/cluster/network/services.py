"""What the service proxy listens on and forwards to: pure, from Services and EndpointSlices.

A ClusterIP (or node port, or external address) with ready endpoints is a listener; one without is none, so that a
caller is refused at once, as by kube-proxy's REJECT.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from atoll.base.names import HOST_PORTS

Object = dict[str, Any]
Key = tuple[str | None, str]
Endpoint = tuple[str, int]
SERVICE_LABEL = "kubernetes.io/service-name"
_DEFAULT_AFFINITY_SECONDS = 10800


@dataclass(frozen=True, slots=True, order=True)
class Listener:
    """Where to listen."""

    protocol: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Forward:
    """Where to forward to. `affinity_seconds`: a client stays with its endpoint for that long. `local`: the endpoints
    for clients in a node's pod range, where the Service's internalTrafficPolicy is Local."""

    service: str
    endpoints: tuple[Endpoint, ...]
    affinity_seconds: int = 0
    local: tuple[tuple[str, tuple[Endpoint, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """A process node: its address, its pods' range."""

    name: str
    address: str
    pod_cidr: str = ""


def plan_forwards(
    services: Iterable[Object],
    slices: Mapping[Key, Sequence[Object]],
    *,
    nodes: Sequence[NodeAddress],
    pods: Mapping[Key, Object],
    cluster_ips: bool = True,
    overrides: Mapping[Key, tuple[str, int]] | None = None,
) -> dict[Listener, Forward]:
    """`slices` and `overrides` by (namespace, service name); `pods` only for ports chosen in host mode."""
    out: dict[Listener, Forward] = {}
    for service in services:
        metadata, spec = service["metadata"], service.get("spec") or {}
        key = (metadata.get("namespace"), metadata["name"])
        if spec.get("type") == "ExternalName":
            continue
        override = (overrides or {}).get(key)
        for port in spec.get("ports") or []:
            found = slices.get(key, ())
            endpoints = (override,) if override else ready_endpoints(found, port, pods)
            if not endpoints:
                continue
            title = f"{key[0]}/{key[1]}:{port.get('name') or port['port']}"
            forward = Forward(title, endpoints, _affinity(spec))
            if spec.get("externalTrafficPolicy") == "Local":
                local = {node.address: ready_endpoints(found, port, pods, node=node.name) for node in nodes}
            else:
                local = {node.address: endpoints for node in nodes}
            inside = replace(forward, local=_by_range(spec, found, port, pods, nodes))
            for listener in _inner(spec, port, cluster_ips):
                out.setdefault(listener, inside)
            for listener in _outer(spec, service, port):
                out.setdefault(listener, forward)
            for address, there in local.items():
                if port.get("nodePort") and there:
                    listener = Listener(port.get("protocol", "TCP"), address, port["nodePort"])
                    out.setdefault(listener, replace(forward, endpoints=there))
    return {listener: forward for listener, forward in out.items() if listener.protocol in ("TCP", "UDP")}


def _by_range(
    spec: Object, found: Sequence[Object], port: Object, pods: Mapping[Key, Object], nodes: Sequence[NodeAddress]
) -> tuple[tuple[str, tuple[Endpoint, ...]], ...]:
    if spec.get("internalTrafficPolicy") != "Local":
        return ()
    return tuple((node.pod_cidr, ready_endpoints(found, port, pods, node=node.name)) for node in nodes if node.pod_cidr)


def _inner(spec: Object, port: Object, cluster_ips: bool) -> Iterable[Listener]:
    if not cluster_ips:
        return
    for address in spec.get("clusterIPs") or [spec.get("clusterIP")]:
        if address and address != "None" and ":" not in address:
            yield Listener(port.get("protocol", "TCP"), address, port["port"])


def _outer(spec: Object, service: Object, port: Object) -> Iterable[Listener]:
    """Load balancers' addresses, and external ones that turn out to be this machine's."""
    addresses = list(spec.get("externalIPs") or [])
    if spec.get("type") == "LoadBalancer":
        ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
        addresses += [item["ip"] for item in ingress if item.get("ip") and item.get("ipMode") != "Proxy"]
    for address in addresses:
        if ":" not in address:
            yield Listener(port.get("protocol", "TCP"), address, port["port"])


def _affinity(spec: Object) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return int(config.get("timeoutSeconds") or _DEFAULT_AFFINITY_SECONDS)


def ready_endpoints(
    slices: Sequence[Object], service_port: Object, pods: Mapping[Key, Object], *, node: str = ""
) -> tuple[Endpoint, ...]:
    """Ready endpoints (of a node); where there are none, those that terminate but still serve (as kube-proxy falls
    back)."""
    ready: set[tuple[str, int]] = set()
    serving: set[tuple[str, int]] = set()
    name = service_port.get("name") or ""
    for found in slices:
        if found.get("addressType", "IPv4") != "IPv4":
            continue
        ports = [item for item in found.get("ports") or [] if (item.get("name") or "") == name]
        for port in ports:
            if port.get("port") is None:
                continue
            for endpoint in found.get("endpoints") or []:
                if node and endpoint.get("nodeName") != node:
                    continue
                conditions = endpoint.get("conditions") or {}
                target = _target(endpoint, port["port"], pods)
                if conditions.get("ready", True) is not False:
                    ready.add(target)
                elif conditions.get("serving") and conditions.get("terminating"):
                    serving.add(target)
    return tuple(sorted(ready or serving))


def _target(endpoint: Object, port: int, pods: Mapping[Key, Object]) -> tuple[str, int]:
    """The address, with the port that a host-mode node chose instead."""
    reference = endpoint.get("targetRef") or {}
    pod = pods.get((reference.get("namespace"), reference.get("name", "")))
    if pod is not None:
        text = (pod["metadata"].get("annotations") or {}).get(HOST_PORTS, "")
        chosen = dict(pair.split("=", 1) for pair in text.split(",") if "=" in pair)
        if str(port) in chosen and chosen[str(port)].isdigit():
            port = int(chosen[str(port)])
    return endpoint["addresses"][0], port


def host_port_forwards(pods: Iterable[Object], node_addresses: Sequence[str]) -> dict[Listener, Forward]:
    """hostPort of the process pods: the node's address and port → the pod's."""
    out: dict[Listener, Forward] = {}
    for pod in pods:
        status, spec = pod.get("status") or {}, pod["spec"]
        host, address = status.get("hostIP"), status.get("podIP")
        if not address or not host or host not in node_addresses or spec.get("hostNetwork"):
            continue
        if status.get("phase") not in ("Pending", "Running"):
            continue
        for container in spec["containers"]:
            for port in container.get("ports") or []:
                if port.get("hostPort"):
                    listener = Listener(port.get("protocol", "TCP"), port.get("hostIP") or host, port["hostPort"])
                    where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
                    out[listener] = Forward(where, ((address, port["containerPort"]),))
    return out
