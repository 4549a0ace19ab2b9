"""A Service and its pods → its Endpoints object (pkg/controller/endpoint, api/v1/endpoints RepackSubsets). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from atoll.cluster.workloads.common import pods as health
from atoll.cluster.workloads.endpoints import selection
from atoll.objects.meta import Object

MANAGED_LABEL = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MOST_ADDRESSES = 1000

_Address = tuple[str, bool]


def plan_endpoints(service: Object, pods: Iterable[Object], existing: Object | None, changed_at: str) -> Object | None:
    """The object to write, or None where all is well."""
    subsets = _subsets(service, pods)
    labels = dict(service["metadata"].get("labels") or {})
    if selection.is_headless(service):
        labels[selection.HEADLESS_LABEL] = ""
    labels[MANAGED_LABEL] = MANAGER
    over = _truncate(subsets)
    if existing is not None:
        same = (existing.get("subsets") or []) == subsets and existing["metadata"].get("labels") == labels
        if same and (OVER_CAPACITY in (existing["metadata"].get("annotations") or {})) == over:
            return None
    metadata = dict(existing["metadata"]) if existing is not None else {}
    notes = {**(metadata.get("annotations") or {}), selection.CHANGE_TIME: changed_at}
    notes.pop(OVER_CAPACITY, None)
    if over:
        notes[OVER_CAPACITY] = "truncated"
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    metadata.update({"name": name, "namespace": namespace, "labels": labels, "annotations": notes})
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets}


def _subsets(service: Object, pods: Iterable[Object]) -> list[Object]:
    """Addresses that share all their ports are in one subset."""
    unready_too = selection.publishes_unready(service)
    headless_without_ports = selection.is_headless(service) and not service["spec"].get("ports")
    known: dict[_Address, Object] = {}
    by_port: dict[tuple[tuple[str, object], ...], set[_Address]] = {}
    for pod in pods:
        if not selection.belongs(pod, terminating_too=unready_too):
            continue
        ip = _address(service, pod)
        if ip is None:
            continue
        address = (ip["ip"], unready_too or health.is_ready(pod))
        known[address] = ip
        for port in selection.ports(service, pod):
            named = {name: value for name, value in port.items() if value != ""}
            by_port.setdefault(tuple(named.items()), set()).add(address)
        if headless_without_ports:
            by_port.setdefault((), set()).add(address)
    grouped: dict[frozenset[_Address], list[Object]] = {}
    for port_items, members in by_port.items():
        grouped.setdefault(frozenset(members), []).append(dict(port_items))
    return [
        _subset(members, ports, known) for members, ports in sorted(grouped.items(), key=lambda item: sorted(item[0]))
    ]


def _subset(members: frozenset[_Address], ports: list[Object], known: dict[_Address, Object]) -> Object:
    made: Object = {}
    ready = [known[address] for address in sorted(members) if address[1]]
    unready = [known[address] for address in sorted(members) if not address[1]]
    if ready:
        made["addresses"] = ready
    if unready:
        made["notReadyAddresses"] = unready
    listed = [port for port in ports if port]
    if listed:
        made["ports"] = listed
    return made


def _address(service: Object, pod: Object) -> Object | None:
    families = service["spec"].get("ipFamilies") or []
    wants_six = bool(families) and families[0] == "IPv6"
    ip = next((item for item in selection.addresses(pod) if (":" in item) == wants_six), None)
    if ip is None:
        return None
    made: Object = {"ip": ip}
    name = selection.hostname(service, pod)
    if name:
        made["hostname"] = name
    if pod["spec"].get("nodeName"):
        made["nodeName"] = pod["spec"]["nodeName"]
    made["targetRef"] = selection.target(pod)
    return made


def _truncate(subsets: list[Object]) -> bool:
    """Keep at most a thousand addresses, ready ones first. True if some were cut."""
    room = MOST_ADDRESSES
    cut = False
    for part in ("addresses", "notReadyAddresses"):
        for subset in subsets:
            found = subset.get(part) or []
            if len(found) > room:
                cut = True
                subset[part] = found[:room]
                if not subset[part]:
                    del subset[part]
            room -= min(room, len(found))
    return cut
