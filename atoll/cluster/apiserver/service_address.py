"""Where a Service leads, for what the API server itself calls: webhooks, conversion, aggregated APIs.

A ready endpoint's address rather than the cluster IP, since an API server without a network beside it has no cluster
IPs (kube-apiserver with --enable-aggregator-routing does the same); an ExternalName leads to that name.
"""

from __future__ import annotations

from atoll.base.errors import ApiError, NotFound
from atoll.base.names import HOST_PORTS
from atoll.cluster.apiserver.ports import Object
from atoll.cluster.store.port import Key, Store

_SERVICE_LABEL = "kubernetes.io/service-name"
_SLICES = "endpointslices.discovery.k8s.io"


def unavailable(message: str) -> ApiError:
    return ApiError(message, code=503, reason="ServiceUnavailable")


def service_address(store: Store, namespace: str, name: str, port: int) -> tuple[str, int]:
    """(host, port) of a Service's port. Raises ApiError in upstream's words."""
    record = store.newest(Key("services", namespace, name))
    if record is None:
        raise NotFound(f'service "{name}" not found', details={"name": name, "kind": "services"})
    spec = record.object.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName") or ""), port
    found = next((item for item in spec.get("ports") or () if item["port"] == port), None)
    if found is None:
        raise unavailable(f'no service port {port} found for service "{name}"')
    for address in _endpoints(store, namespace, name, found):
        return address
    raise unavailable(f'no endpoints available for service "{name}"')


def _endpoints(store: Store, namespace: str, name: str, service_port: Object) -> list[tuple[str, int]]:
    found = []
    for record in store.scan(_SLICES, namespace):
        if record.labels.get(_SERVICE_LABEL) != name:
            continue
        obj = record.object
        ports = [
            item["port"]
            for item in obj.get("ports") or ()
            if (item.get("name") or "") == (service_port.get("name") or "") and item.get("port")
        ]
        for endpoint in obj.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready", True) is not False:
                found += [(endpoint["addresses"][0], _chosen(store, endpoint, port)) for port in ports]
    return found


def _chosen(store: Store, endpoint: Object, port: int) -> int:
    """The port; on a node without a network of its own, the one that the pod was given instead."""
    reference = endpoint.get("targetRef") or {}
    if reference.get("kind") != "Pod":
        return port
    pod = store.get(Key("pods", reference.get("namespace") or "", reference.get("name") or ""))
    if pod is None or HOST_PORTS.encode() not in pod.data:
        return port
    text = (pod.object["metadata"].get("annotations") or {}).get(HOST_PORTS, "")
    chosen = dict(pair.split("=", 1) for pair in text.split(",") if "=" in pair)
    value = chosen.get(str(port), "")
    return int(value) if value.isdigit() else port
