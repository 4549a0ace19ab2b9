"""Service and Ingress: addresses and node ports belong to each member."""

from __future__ import annotations

import json
from typing import Any

from atoll.fleet.propagation.interpreters.table import HEALTHY, UNHEALTHY, Aggregation, Interpreter, Reference

Object = dict[str, Any]
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def prune_service(obj: Object) -> None:
    """Takes away, in place, the addresses and ports that the hub allocated. A headless Service stays headless."""
    spec = obj["spec"]
    if spec.get("clusterIP") != "None":
        spec.pop("clusterIP", None)
        spec.pop("clusterIPs", None)
    spec.pop("healthCheckNodePort", None)
    if spec.get("ipFamilyPolicy") in (None, "SingleStack"):
        spec.pop("ipFamilies", None)
        spec.pop("ipFamilyPolicy", None)


def asked_node_ports(template: Object) -> set[int]:
    """Node ports that a person asked for, by what kubectl applied or by who owns the field."""
    metadata = template["metadata"]
    ports = (template.get("spec") or {}).get("ports") or ()
    given = {port["nodePort"] for port in ports if port.get("nodePort")}
    if not given:
        return set()
    text = (metadata.get("annotations") or {}).get(_LAST_APPLIED)
    if text:
        try:
            applied = json.loads(text)
        except ValueError:
            applied = {}
        wanted = {port.get("nodePort") for port in (applied.get("spec") or {}).get("ports") or ()}
        return {port for port in given if port in wanted}
    owned = set()
    for entry in metadata.get("managedFields") or ():
        fields = ((entry.get("fieldsV1") or {}).get("f:spec") or {}).get("f:ports") or {}
        for key, value in fields.items():
            if isinstance(value, dict) and "f:nodePort" in value and key.startswith("k:"):
                wanted_port = json.loads(key[2:]).get("port")
                owned |= {port["nodePort"] for port in ports if port.get("port") == wanted_port and "nodePort" in port}
    return owned


def _aggregate_load_balancer(given: Aggregation) -> Object | None:
    spec = given.template.get("spec") or {}
    if given.template.get("kind") == "Service" and spec.get("type") != "LoadBalancer":
        return None
    entries = []
    for item in given.known():
        for entry in (item.status.get("loadBalancer") or {}).get("ingress") or ():
            entries.append(entry if entry.get("hostname") else {**entry, "hostname": item.cluster})
    return {"loadBalancer": {"ingress": entries} if entries else {}}


def _health_service(live: Object) -> str:
    if (live.get("spec") or {}).get("type") != "LoadBalancer":
        return HEALTHY
    return _health_ingress(live)


def _health_ingress(live: Object) -> str:
    return HEALTHY if ((live.get("status") or {}).get("loadBalancer") or {}).get("ingress") else UNHEALTHY


def _ingress_references(obj: Object) -> list[Reference]:
    namespace, spec = obj["metadata"].get("namespace"), obj.get("spec") or {}
    found: dict[Reference, None] = {}
    backends = [spec.get("defaultBackend") or {}]
    for rule in spec.get("rules") or ():
        backends += [path.get("backend") or {} for path in (rule.get("http") or {}).get("paths") or ()]
    for backend in backends:
        name = (backend.get("service") or {}).get("name")
        if name:
            found[Reference("v1", "Service", namespace, name)] = None
    for entry in spec.get("tls") or ():
        if entry.get("secretName"):
            found[Reference("v1", "Secret", namespace, entry["secretName"])] = None
    return list(found)


TABLE: dict[tuple[str, str], Interpreter] = {
    ("", "Service"): Interpreter(
        prune=prune_service, aggregate=_aggregate_load_balancer, health=_health_service
    ),
    ("networking.k8s.io", "Ingress"): Interpreter(
        aggregate=_aggregate_load_balancer, health=_health_ingress, references=_ingress_references
    ),
}  # fmt: skip
