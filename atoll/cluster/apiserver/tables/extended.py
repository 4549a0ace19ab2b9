"""Tables of the other API groups: networking, storage, rbac, admission, certificates, scheduling …"""

from __future__ import annotations

from typing import Any

from atoll.cluster.apiserver.tables.cells import (
    Cells,
    Object,
    Printer,
    age,
    column,
    columns,
    duration,
    name,
    since,
    some,
)
from atoll.cluster.apiserver.tables.core import load_balancer
from atoll.objects.selectors import format_object

_DEFAULT_CLASS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")


def _marked_default(obj: Object, *keys: str) -> str:
    notes = obj["metadata"].get("annotations") or {}
    return name(obj) + (" (default)" if any(notes.get(key) == "true" for key in keys) else "")


def _or(value: Any, absent: Any) -> Any:
    return absent if value is None else value


def _ingress(obj: Object, now: float) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    rules = spec.get("rules") or ()
    hosts = [rule["host"] for rule in rules[:3] if rule.get("host")]
    shown = ",".join(hosts) or "*"
    if hosts and len(rules) > 3:
        shown += f" + {len(rules) - 3} more..."
    return [
        name(obj), _or(spec.get("ingressClassName"), "<none>"), shown, load_balancer(status),
        "80, 443" if spec.get("tls") else "80", age(obj, now),
    ]  # fmt: skip


def _ingress_class(obj: Object, now: float) -> Cells:
    spec = obj.get("spec") or {}
    parameters = spec.get("parameters")
    shown = "<none>"
    if parameters:
        group = parameters.get("apiGroup")
        shown = f"{parameters['kind']}{'.' + group if group is not None else ''}/{parameters['name']}"
    title = _marked_default(obj, "ingressclass.kubernetes.io/is-default-class")
    return [title, spec.get("controller", ""), shown, age(obj, now)]


def _network_policy(obj: Object, now: float) -> Cells:
    return [name(obj), format_object((obj.get("spec") or {}).get("podSelector") or {}), age(obj, now)]


def _slice(obj: Object, now: float) -> Cells:
    ports = [
        str(port["port"]) if port.get("port") is not None else _or(port.get("name"), "*")
        for port in obj.get("ports") or ()
    ]
    addresses = [address for item in obj.get("endpoints") or () for address in item.get("addresses") or ()]
    return [name(obj), obj.get("addressType", ""), some(ports), some(addresses), age(obj, now)]


def _service_cidr(obj: Object, now: float) -> Cells:
    return [name(obj), ",".join((obj.get("spec") or {}).get("cidrs") or ()), age(obj, now)]


def _ip_address(obj: Object, now: float) -> Cells:
    parent = (obj.get("spec") or {}).get("parentRef")
    shown = "<none>"
    if parent:
        group = parent.get("group")
        parts = [f"{parent.get('resource', '')}{'.' + group if group else ''}".lower()]
        shown = "/".join([*parts, *([parent["namespace"]] if parent.get("namespace") else []), parent["name"]])
    return [name(obj), shown, age(obj, now)]


def _binding(obj: Object, now: float) -> Cells:
    role = obj.get("roleRef") or {}
    found: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in obj.get("subjects") or ():
        title = subject.get("name", "")
        if subject.get("kind") == "ServiceAccount":
            title = f"{subject.get('namespace', '')}/{title}"
        found.setdefault(subject.get("kind", ""), []).append(title)
    subjects = [", ".join(found[kind]) for kind in ("User", "Group", "ServiceAccount")]
    return [name(obj), f"{role.get('kind', '')}/{role.get('name', '')}", age(obj, now), *subjects]


def _signing_request(obj: Object, now: float) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    kinds = {item.get("type") for item in status.get("conditions") or ()}
    state = "Denied" if "Denied" in kinds else "Approved" if "Approved" in kinds else "Pending"
    state += ",Failed" * ("Failed" in kinds) + ",Issued" * bool(status.get("certificate"))
    seconds = spec.get("expirationSeconds")
    return [
        name(obj), age(obj, now), spec.get("signerName") or "<none>", spec.get("username", ""),
        "<none>" if seconds is None else duration(seconds), state,
    ]  # fmt: skip


def _lease(obj: Object, now: float) -> Cells:
    return [name(obj), (obj.get("spec") or {}).get("holderIdentity") or "", age(obj, now)]


def _storage_class(obj: Object, now: float) -> Cells:
    return [
        _marked_default(obj, *_DEFAULT_CLASS), obj.get("provisioner", ""), obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate", bool(obj.get("allowVolumeExpansion")), age(obj, now),
    ]  # fmt: skip


def _priority_class(obj: Object, now: float) -> Cells:
    return [
        name(obj), obj.get("value", 0), bool(obj.get("globalDefault")), age(obj, now),
        obj.get("preemptionPolicy") or "",
    ]  # fmt: skip


def _attachment(obj: Object, now: float) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    volume = (spec.get("source") or {}).get("persistentVolumeName") or ""
    return [
        name(obj), spec.get("attacher", ""), volume, spec.get("nodeName", ""), bool(status.get("attached")),
        age(obj, now),
    ]  # fmt: skip


def _csi_driver(obj: Object, now: float) -> Cells:
    spec = obj.get("spec") or {}
    tokens = spec.get("tokenRequests")
    return [
        name(obj), _or(spec.get("attachRequired"), True), bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        "<unset>" if tokens is None else ",".join(item.get("audience", "") for item in tokens),
        bool(spec.get("requiresRepublish")), ",".join(spec.get("volumeLifecycleModes") or ()) or "<none>",
        age(obj, now),
    ]  # fmt: skip


def _policy(count: str) -> Any:
    def cells(obj: Object, now: float) -> Cells:
        spec = obj.get("spec") or {}
        kind = spec.get("paramKind")
        shown = f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}" if kind else "<unset>"
        return [name(obj), len(spec.get(count) or ()), shown, age(obj, now)]

    return cells


def _policy_binding(obj: Object, now: float) -> Cells:
    spec = obj.get("spec") or {}
    reference = spec.get("paramRef") or {}
    shown = "<unset>"
    if reference.get("name"):
        shown = f"{reference.get('namespace') or '*'}/{reference['name']}"
    elif reference.get("selector") is not None:
        shown = format_object(reference["selector"])
    return [name(obj), spec.get("policyName", ""), shown, age(obj, now)]


def _flow_schema(obj: Object, now: float) -> Cells:
    spec = obj.get("spec") or {}
    dangling = next(
        (c.get("status") for c in (obj.get("status") or {}).get("conditions") or () if c.get("type") == "Dangling"), "?"
    )
    return [
        name(obj), (spec.get("priorityLevelConfiguration") or {}).get("name", ""), spec.get("matchingPrecedence", 0),
        (spec.get("distinguisherMethod") or {}).get("type", "<none>"), age(obj, now), dangling,
    ]  # fmt: skip


def _priority_level(obj: Object, now: float) -> Cells:
    spec = obj.get("spec") or {}
    limited = spec.get("limited")
    queuing = ((limited or {}).get("limitResponse") or {}).get("queuing")
    queues = [queuing.get(key) if queuing else "<none>" for key in ("queues", "handSize", "queueLengthLimit")]
    shares = limited.get("nominalConcurrencyShares") if limited else "<none>"
    return [name(obj), spec.get("type", ""), shares, *queues, age(obj, now)]


def _claim_state(obj: Object) -> str:
    states = []
    status = obj.get("status") or {}
    deleted = "deletionTimestamp" in obj["metadata"]
    if deleted:
        states.append("deleted")
    if status.get("allocation") is None:
        if not deleted:
            states.append("pending")
    else:
        states.append("allocated")
        if status.get("reservedFor"):
            states.append("reserved")
    return ",".join(states)


def _resource_slice(obj: Object, now: float) -> Cells:
    spec = obj.get("spec") or {}
    pool = (spec.get("pool") or {}).get("name", "")
    return [name(obj), spec.get("nodeName") or "", spec.get("driver", ""), pool, age(obj, now)]


def _taint_rule(obj: Object, now: float) -> Cells:
    taint = (obj.get("spec") or {}).get("taint") or {}
    added = since(taint["timeAdded"], now) if taint.get("timeAdded") else ""
    return [name(obj), taint.get("key", ""), taint.get("value", ""), taint.get("effect", ""), added, age(obj, now)]


def _api_service(obj: Object, now: float) -> Cells:
    spec = obj.get("spec") or {}
    service = spec.get("service")
    available = next(
        (item for item in (obj.get("status") or {}).get("conditions") or () if item.get("type") == "Available"), None
    )
    state = "Unknown" if available is None else str(available.get("status", ""))
    if available is not None and state == "False":
        state += f" ({available.get('reason', '')})"
    where = f"{service.get('namespace', '')}/{service.get('name', '')}" if service else "Local"
    return [name(obj), where, state, age(obj, now)]


def _crd(obj: Object, now: float) -> Cells:
    return [name(obj), obj["metadata"].get("creationTimestamp")]


def _scale(obj: Object, now: float) -> Cells:
    return [
        name(obj), (obj.get("spec") or {}).get("replicas", 0), (obj.get("status") or {}).get("replicas", 0),
        age(obj, now),
    ]  # fmt: skip


def _plain(obj: Object, now: float) -> Cells:
    return [name(obj), age(obj, now)]


DEFAULT = Printer((column("Name", "string"), column("Created At", "date")), _crd)
SCALE = Printer(columns("Name Desired:integer Available:integer Age"), _scale)
_WEBHOOKS = Printer(
    columns("Name Webhooks:integer Age"), lambda obj, now: [name(obj), len(obj.get("webhooks") or ()), age(obj, now)]
)
_ROLE_BINDING = Printer(columns("Name Role Age Users* Groups* ServiceAccounts*"), _binding)
_BINDING = Printer(columns("Name PolicyName ParamRef Age"), _policy_binding)
PRINTERS = {
    "ingresses.networking.k8s.io": Printer(columns("Name Class Hosts Address Ports Age"), _ingress),
    "ingressclasses.networking.k8s.io": Printer(columns("Name Controller Parameters Age"), _ingress_class),
    "networkpolicies.networking.k8s.io": Printer(columns("Name Pod-Selector Age"), _network_policy),
    "servicecidrs.networking.k8s.io": Printer(columns("Name CIDRs Age"), _service_cidr),
    "ipaddresses.networking.k8s.io": Printer(columns("Name ParentRef"), _ip_address),
    "endpointslices.discovery.k8s.io": Printer(columns("Name AddressType Ports Endpoints Age"), _slice),
    "rolebindings.rbac.authorization.k8s.io": _ROLE_BINDING,
    "clusterrolebindings.rbac.authorization.k8s.io": _ROLE_BINDING,
    "certificatesigningrequests.certificates.k8s.io": Printer(
        columns("Name Age SignerName Requestor RequestedDuration Condition"), _signing_request
    ),
    "leases.coordination.k8s.io": Printer(columns("Name Holder Age"), _lease),
    "storageclasses.storage.k8s.io": Printer(
        columns("Name Provisioner ReclaimPolicy VolumeBindingMode AllowVolumeExpansion Age"), _storage_class
    ),
    "volumeattributesclasses.storage.k8s.io": Printer(
        columns("Name DriverName Age"), lambda obj, now: [name(obj), obj.get("driverName", ""), age(obj, now)]
    ),
    "volumeattachments.storage.k8s.io": Printer(
        (
            column("Name", "string"),
            column("Attacher", "string", form="name"),
            *columns("PV Node Attached:boolean Age"),
        ),
        _attachment,
    ),
    "csinodes.storage.k8s.io": Printer(
        columns("Name Drivers:integer Age"),
        lambda obj, now: [name(obj), len((obj.get("spec") or {}).get("drivers") or ()), age(obj, now)],
    ),
    "csidrivers.storage.k8s.io": Printer(
        columns(
            "Name AttachRequired:boolean PodInfoOnMount:boolean StorageCapacity:boolean TokenRequests "
            "RequiresRepublish:boolean Modes Age"
        ),
        _csi_driver,
    ),
    "priorityclasses.scheduling.k8s.io": Printer(
        columns("Name Value:integer Global-Default:boolean Age PreemptionPolicy"), _priority_class
    ),
    "runtimeclasses.node.k8s.io": Printer(
        columns("Name Handler Age"), lambda obj, now: [name(obj), obj.get("handler", ""), age(obj, now)]
    ),
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": _WEBHOOKS,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": _WEBHOOKS,
    "validatingadmissionpolicies.admissionregistration.k8s.io": Printer(
        columns("Name Validations:integer ParamKind Age"), _policy("validations")
    ),
    "mutatingadmissionpolicies.admissionregistration.k8s.io": Printer(
        columns("Name Mutations:integer ParamKind Age"), _policy("mutations")
    ),
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": _BINDING,
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io": _BINDING,
    "flowschemas.flowcontrol.apiserver.k8s.io": Printer(
        columns("Name PriorityLevel MatchingPrecedence DistinguisherMethod Age MissingPL"), _flow_schema
    ),
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": Printer(
        columns("Name Type NominalConcurrencyShares Queues HandSize QueueLengthLimit Age"), _priority_level
    ),
    "deviceclasses.resource.k8s.io": Printer(columns("Name Age"), _plain),
    "devicetaintrules.resource.k8s.io": Printer(columns("Name Key Value Effect TimeAdded Age"), _taint_rule),
    "resourceclaims.resource.k8s.io": Printer(
        columns("Name State Age"), lambda obj, now: [name(obj), _claim_state(obj), age(obj, now)]
    ),
    "resourceclaimtemplates.resource.k8s.io": Printer(columns("Name Age"), _plain),
    "resourceslices.resource.k8s.io": Printer(columns("Name Node Driver Pool Age"), _resource_slice),
    "apiservices.apiregistration.k8s.io": Printer(columns("Name Service Available Age"), _api_service),
}
