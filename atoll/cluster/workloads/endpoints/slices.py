"""A Service, its pods and the slices there are → slices to create, update and delete (staging endpointslice). Pure.

Slices change as little as may be: what stays keeps its place, room in changed slices is filled before others are
touched, and at most one hundred endpoints are in each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from atoll.cluster.workloads.common import pods as health
from atoll.cluster.workloads.endpoints import selection
from atoll.objects.meta import Object, is_deleting, owner_reference

MOST_ENDPOINTS = 100
SERVICE_LABEL = "kubernetes.io/service-name"
MANAGED_LABEL = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
_RESERVED = {SERVICE_LABEL, MANAGED_LABEL, selection.HEADLESS_LABEL}

Ports = tuple[tuple[tuple[str, object], ...], ...]
ZoneOf = Callable[[str], str]


@dataclass(slots=True)
class SlicePlan:
    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)


def plan_slices(
    service: Object, pods: Iterable[Object], existing: Iterable[Object], zone_of: ZoneOf, changed_at: str
) -> SlicePlan:
    """`existing` are this Service's slices that the controller manages; `zone_of(node)` "" where unknown."""
    plan = SlicePlan()
    present = list(existing)
    members = [pod for pod in pods if selection.belongs(pod, terminating_too=True)]
    families = _families(service)
    plan.delete += [item for item in present if item["addressType"] not in families]
    for family in families:
        wanted = _wanted(service, members, family, zone_of)
        own = [item for item in present if item["addressType"] == family]
        part = SlicePlan()
        _plan_family(part, service, family, wanted, own, changed_at)
        _reuse(part)
        plan.create += part.create
        plan.update += part.update
        plan.delete += part.delete
    return plan


def _reuse(plan: SlicePlan) -> None:
    """A slice that would go becomes one that would be made: fewer writes, and no moment without it."""
    while plan.create and plan.delete:
        new, old = plan.create.pop(), plan.delete.pop(0)
        metadata = {**old["metadata"], **{name: new["metadata"][name] for name in ("labels", "annotations")}}
        plan.update.append({**old, "metadata": metadata, "endpoints": new["endpoints"], "ports": new["ports"]})


def _families(service: Object) -> list[str]:
    found = service["spec"].get("ipFamilies")
    if found:
        return list(found)
    return ["IPv6" if ":" in (service["spec"].get("clusterIP") or "") else "IPv4"]


def _wanted(service: Object, members: list[Object], family: str, zone_of: ZoneOf) -> dict[Ports, dict[str, Object]]:
    """Endpoints by pod uid, by their ports."""
    result: dict[Ports, dict[str, Object]] = {}
    unready_too = selection.publishes_unready(service)
    for pod in members:
        found = [ip for ip in selection.addresses(pod) if (":" in ip) == (family == "IPv6")]
        if not found:
            continue
        key = _freeze(selection.ports(service, pod))
        result.setdefault(key, {})[pod["metadata"]["uid"]] = _endpoint(service, pod, found, unready_too, zone_of)
    return result


def _endpoint(service: Object, pod: Object, found: list[str], unready_too: bool, zone_of: ZoneOf) -> Object:
    serving, terminating = health.is_ready(pod), is_deleting(pod)
    made: Object = {
        "addresses": found,
        "conditions": {
            "ready": unready_too or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "targetRef": selection.target(pod),
    }
    node = pod["spec"].get("nodeName")
    if node:
        made["nodeName"] = node
        zone = zone_of(node)
        if zone:
            made["zone"] = zone
    name = selection.hostname(service, pod)
    if name:
        made["hostname"] = name
    return made


def _freeze(ports: list[Object]) -> Ports:
    return tuple(tuple(port.items()) for port in ports)


def _frozen_of(item: Object) -> Ports:
    order = ("name", "port", "protocol", "appProtocol")
    return _freeze(
        [{name: port[name] for name in order if port.get(name) is not None} for port in item.get("ports") or ()]
    )


def labels_of(service: Object) -> dict[str, str]:
    """The Service's own, and those that say whose and what kind of slice it is."""
    given = service["metadata"].get("labels") or {}
    made = {name: value for name, value in given.items() if name not in _RESERVED}
    if selection.is_headless(service):
        made[selection.HEADLESS_LABEL] = ""
    made[SERVICE_LABEL] = service["metadata"]["name"]
    made[MANAGED_LABEL] = MANAGER
    return made


def _plan_family(
    plan: SlicePlan,
    service: Object,
    family: str,
    wanted: dict[Ports, dict[str, Object]],
    existing: list[Object],
    changed_at: str,
) -> None:
    by_ports: dict[Ports, list[Object]] = {}
    for item in existing:
        by_ports.setdefault(_frozen_of(item), []).append(item)
    if not wanted:
        wanted = {(): {}}
    for ports, endpoints in wanted.items():
        _plan_ports(plan, service, family, ports, endpoints, by_ports.pop(ports, []), changed_at)
    for leftover in by_ports.values():
        plan.delete += leftover


def _plan_ports(
    plan: SlicePlan,
    service: Object,
    family: str,
    ports: Ports,
    endpoints: dict[str, Object],
    existing: list[Object],
    changed_at: str,
) -> None:
    left = dict(endpoints)
    labels = labels_of(service)
    kept: list[tuple[Object, list[Object]]] = []
    for item in existing:
        stays = [left.pop(uid) for uid in map(_uid, item.get("endpoints") or ()) if uid in left]
        kept.append((item, stays))
    new = list(left.values())
    for item, stays in kept:  # room in slices that change anyway is filled first
        if new and stays != (item.get("endpoints") or []):
            room = MOST_ENDPOINTS - len(stays)
            stays += new[:room]
            new = new[room:]
    if new and len(new) < MOST_ENDPOINTS:
        fitting = [stays for _, stays in kept if stays and len(stays) + len(new) <= MOST_ENDPOINTS]
        if fitting:
            fullest = max(fitting, key=len)
            fullest += new
            new = []
    nothing_else = not endpoints
    for item, stays in kept:
        if not stays and not (nothing_else and item is existing[0]):
            plan.delete.append(item)
        elif stays != (item.get("endpoints") or []) or item["metadata"].get("labels") != labels:
            plan.update.append(_with(item, labels, stays, changed_at))
    if nothing_else and not existing:
        plan.create.append(_new(service, family, ports, labels, [], changed_at))
    for start in range(0, len(new), MOST_ENDPOINTS):
        plan.create.append(_new(service, family, ports, labels, new[start : start + MOST_ENDPOINTS], changed_at))


def _uid(endpoint: Object) -> str:
    return str((endpoint.get("targetRef") or {}).get("uid", ""))


def _with(item: Object, labels: dict[str, str], endpoints: list[Object], changed_at: str) -> Object:
    metadata = item["metadata"]
    notes = {**(metadata.get("annotations") or {}), selection.CHANGE_TIME: changed_at}
    return {**item, "metadata": {**metadata, "labels": labels, "annotations": notes}, "endpoints": endpoints}


def _new(
    service: Object, family: str, ports: Ports, labels: dict[str, str], endpoints: list[Object], changed_at: str
) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": f"{service['metadata']['name']}-",
            "namespace": service["metadata"]["namespace"],
            "labels": labels,
            "annotations": {selection.CHANGE_TIME: changed_at},
            "ownerReferences": [owner_reference(service)],
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": [dict(port) for port in ports],
    }
