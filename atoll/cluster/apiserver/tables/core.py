"""Tables of the core group's other kinds: nodes, services, volumes, events …"""

from __future__ import annotations

from atoll.cluster.apiserver.tables.cells import Cells, Object, Printer, age, columns, labels, name, since, some
from atoll.kinds.convert import convert

_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
_ROLE_PREFIX = "node-role.kubernetes.io/"


def _node(obj: Object, now: float) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    info = status.get("nodeInfo") or {}
    ready = next((item for item in status.get("conditions") or () if item.get("type") == "Ready"), None)
    state = "Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"
    if spec.get("unschedulable"):
        state += ",SchedulingDisabled"
    roles = set()
    for key, value in (obj["metadata"].get("labels") or {}).items():
        if key.startswith(_ROLE_PREFIX) and len(key) > len(_ROLE_PREFIX):
            roles.add(key.removeprefix(_ROLE_PREFIX))
        elif key == "kubernetes.io/role" and value:
            roles.add(value)
    kernel = info.get("kernelVersion") or "<unknown>"
    if info.get("architecture"):
        kernel += f" ({info['architecture']})"
    return [
        name(obj), state, ",".join(sorted(roles)) or "<none>", age(obj, now), info.get("kubeletVersion", ""),
        _address(status, "InternalIP"), _address(status, "ExternalIP"), info.get("osImage") or "<unknown>", kernel,
        info.get("containerRuntimeVersion") or "<unknown>",
    ]  # fmt: skip


def _address(status: Object, kind: str) -> str:
    found = (item["address"] for item in status.get("addresses") or () if item.get("type") == kind)
    return next(found, "<none>")


def load_balancer(status: Object) -> str:
    """The addresses of a load balancer, sorted."""
    ingress = (status.get("loadBalancer") or {}).get("ingress") or ()
    return ",".join(sorted({item.get("ip") or item.get("hostname") or "" for item in ingress} - {""}))


def _external(spec: Object, status: Object) -> str:
    external = spec.get("externalIPs") or []
    match spec.get("type"):
        case "ClusterIP" | "NodePort":
            return ",".join(external) or "<none>"
        case "LoadBalancer":
            found = load_balancer(status)
            return ",".join([*([found] if found else []), *external]) or "<pending>"
        case "ExternalName":
            return str(spec.get("externalName", ""))
    return "<unknown>"


def _port(port: Object) -> str:
    node = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port['port']}{node}/{port.get('protocol', '')}"


def _service(obj: Object, now: float) -> Cells:
    spec, status = obj["spec"], obj.get("status") or {}
    ips = spec.get("clusterIPs") or ["<none>"]
    ports = ",".join(_port(port) for port in spec.get("ports") or ())
    return [
        name(obj), spec.get("type", ""), ips[0], _external(spec, status), ports or "<none>", age(obj, now),
        labels(spec.get("selector")),
    ]  # fmt: skip


def _endpoints(obj: Object, now: float) -> Cells:
    addresses: list[str] = []
    for subset in obj.get("subsets") or ():
        found = [item["ip"] for item in subset.get("addresses") or ()]
        ports = subset.get("ports") or ()
        if not ports:
            addresses += found
        for port in ports:
            addresses += [f"[{ip}]:{port['port']}" if ":" in ip else f"{ip}:{port['port']}" for ip in found]
    shown = some(addresses, empty="") if obj.get("subsets") else "<none>"
    return [name(obj), shown, age(obj, now)]


def _event(obj: Object, now: float) -> Cells:
    obj = convert(obj, "v1")
    first = since(obj.get("firstTimestamp") or obj.get("eventTime"), now)
    last = since(obj["lastTimestamp"], now) if obj.get("lastTimestamp") else first
    count = obj.get("count") or 1
    series = obj.get("series")
    if series:
        last, count = since(series.get("lastObservedTime"), now), series.get("count", 0)
    about = obj.get("involvedObject") or {}
    target = about.get("kind", "").lower() + (f"/{about['name']}" if about.get("name") else "")
    source = obj.get("source") or {}
    origin = source.get("component") or obj.get("reportingComponent") or ""
    host = source.get("host") or obj.get("reportingInstance") or ""
    return [
        last, obj.get("type", ""), obj.get("reason", ""), target, about.get("fieldPath", ""),
        f"{origin}, {host}" if host else origin, obj.get("message", "").strip(), first, count, name(obj),
    ]  # fmt: skip


def _modes(modes: list[str] | None) -> str:
    found = set(modes or ())
    return ",".join(short for mode, short in _MODES.items() if mode in found)


def _class(obj: Object) -> str:
    note = (obj["metadata"].get("annotations") or {}).get("volume.beta.kubernetes.io/storage-class")
    return str(note if note is not None else obj["spec"].get("storageClassName") or "")


def _phase(obj: Object) -> str:
    if "deletionTimestamp" in obj["metadata"]:
        return "Terminating"
    return str((obj.get("status") or {}).get("phase", ""))


def _volume(obj: Object, now: float) -> Cells:
    spec, status = obj["spec"], obj.get("status") or {}
    claim = spec.get("claimRef")
    return [
        name(obj), (spec.get("capacity") or {}).get("storage", "0"), _modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""), _phase(obj),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "", _class(obj),
        _or_unset(spec.get("volumeAttributesClassName")), status.get("reason", ""), age(obj, now),
        _or_unset(spec.get("volumeMode")),
    ]  # fmt: skip


def _or_unset(value: str | None) -> str:
    return "<unset>" if value is None else value


def _claim(obj: Object, now: float) -> Cells:
    spec, status = obj["spec"], obj.get("status") or {}
    volume = spec.get("volumeName", "")
    capacity = (status.get("capacity") or {}).get("storage", "0") if volume else ""
    return [
        name(obj), _phase(obj), volume, capacity, _modes(status.get("accessModes")) if volume else "", _class(obj),
        _or_unset(spec.get("volumeAttributesClassName")), age(obj, now), _or_unset(spec.get("volumeMode")),
    ]  # fmt: skip


def _quota(obj: Object, now: float) -> Cells:
    status = obj.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    requests: list[str] = []
    limits: list[str] = []
    for resource in sorted(hard):
        text = f"{resource}: {used.get(resource, '0')}/{hard[resource]}"
        (limits if resource.startswith("limits.") else requests).append(text)
    return [name(obj), ", ".join(requests), ", ".join(limits), age(obj, now)]


def _component_status(obj: Object, now: float) -> Cells:
    status, message, error = "Unknown", "", ""
    for condition in obj.get("conditions") or ():
        if condition.get("type") == "Healthy":
            status = "Healthy" if condition.get("status") == "True" else "Unhealthy"
            message, error = condition.get("message", ""), condition.get("error", "")
            break
    return [name(obj), status, message, error]


def _config_map(obj: Object, now: float) -> Cells:
    return [name(obj), len(obj.get("data") or ()) + len(obj.get("binaryData") or ()), age(obj, now)]


PRINTERS = {
    "nodes": Printer(
        columns("Name Status Roles Age Version Internal-IP* External-IP* OS-Image* Kernel-Version* Container-Runtime*"),
        _node,
    ),
    "services": Printer(columns("Name Type Cluster-IP External-IP Port(s) Age Selector*"), _service),
    "endpoints": Printer(columns("Name Endpoints Age"), _endpoints),
    "events": Printer(
        columns("Last_Seen Type Reason Object Subobject* Source* Message First_Seen* Count* Name*"), _event
    ),
    "namespaces": Printer(columns("Name Status Age"), lambda obj, now: [name(obj), _namespace(obj), age(obj, now)]),
    "secrets": Printer(
        columns("Name Type Data Age"),
        lambda obj, now: [name(obj), obj.get("type", ""), len(obj.get("data") or ()), age(obj, now)],
    ),
    "configmaps": Printer(columns("Name Data Age"), _config_map),
    "serviceaccounts": Printer(columns("Name Age"), lambda obj, now: [name(obj), age(obj, now)]),
    "persistentvolumes": Printer(
        columns(
            "Name Capacity Access_Modes Reclaim_Policy Status Claim StorageClass VolumeAttributesClass Reason Age "
            "VolumeMode*"
        ),
        _volume,
    ),
    "persistentvolumeclaims": Printer(
        columns("Name Status Volume Capacity Access_Modes StorageClass VolumeAttributesClass Age VolumeMode*"), _claim
    ),
    "resourcequotas": Printer(columns("Name Request Limit Age"), _quota),
    "componentstatuses": Printer(columns("Name Status Message Error"), _component_status),
}


def _namespace(obj: Object) -> str:
    return str((obj.get("status") or {}).get("phase", ""))
