"""What a write may change: upstream's registry strategies (pkg/registry/*/*/strategy.go), without validation.

`prepare_create` resets status and starts the generation, `prepare_update` keeps status and moves the generation
when what it counts has changed, `prepare_status` keeps everything but status.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from atoll.base import quantity
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.behaviour.defaults import TEMPLATE_GENERATION

Prepare = Callable[[Object], None]
PrepareUpdate = Callable[[Object, Object], None]
MakeStatus = Callable[[], Object]


def reset_status(make: MakeStatus, *, generation: bool) -> Prepare:
    """A created object has no status yet; `generation`: kinds that count their changes."""

    def prepare(obj: Object) -> None:
        obj["status"] = make()
        if generation:
            obj["metadata"]["generation"] = 1

    return prepare


def local_is_available(obj: Object) -> None:
    """An APIService that names no Service is answered here: available from the start (aggregation's LOCAL)."""
    obj["status"] = {}
    if obj["spec"].get("service") is None:
        condition = {
            "type": "Available",
            "status": "True",
            "lastTransitionTime": obj["metadata"].get("creationTimestamp"),
            "reason": "Local",
            "message": "Local APIServices are always available",
        }
        obj["status"]["conditions"] = [condition]


def first_generation(obj: Object) -> None:
    obj["metadata"]["generation"] = 1


def keep_generation(new: Object, old: Object) -> None:
    """Clients never set the generation."""
    generation = old["metadata"].get("generation")
    if generation is None:
        new["metadata"].pop("generation", None)
    else:
        new["metadata"]["generation"] = generation


def _next_generation(new: Object, old: Object) -> None:
    new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1


def keep(new: Object, old: Object, field: str) -> None:
    """`field` stays as it was."""
    if field in old:
        new[field] = old[field]
    else:
        new.pop(field, None)


def keep_status(new: Object, old: Object) -> None:
    keep(new, old, "status")


def spec_counts(*fields: str, status: bool = True, annotations: bool = False, labels: bool = False) -> PrepareUpdate:
    """Generation + 1 when one of the fields changed; with `status` a plain update can't touch status."""

    def prepare(new: Object, old: Object) -> None:
        if status:
            keep_status(new, old)
        changed = any(new.get(field) != old.get(field) for field in fields)
        if not changed and annotations:
            changed = new["metadata"].get("annotations") != old["metadata"].get("annotations")
        if not changed and labels:
            changed = (new["metadata"].get("labels") or {}) != (old["metadata"].get("labels") or {})
        if changed:
            _next_generation(new, old)
        else:
            keep_generation(new, old)

    return prepare


def keep_status_only(new: Object, old: Object) -> None:
    """A kind with a status that does not count generations."""
    keep_status(new, old)
    keep_generation(new, old)


def status_only(new: Object, old: Object) -> None:
    """A /status write keeps the spec."""
    keep(new, old, "spec")
    keep_generation(new, old)


def status_and_no_metadata(new: Object, old: Object) -> None:
    """A /status write that keeps all metadata but managedFields (and the version it was based on)."""
    keep(new, old, "spec")
    mine = new["metadata"]
    metadata = dict(old["metadata"])
    for field in ("managedFields", "resourceVersion"):
        if field in mine:
            metadata[field] = mine[field]
        else:
            metadata.pop(field, None)
    new["metadata"] = metadata


def deployment_status(new: Object, old: Object) -> None:
    status_only(new, old)
    keep(new["metadata"], old["metadata"], "labels")


# Pods


_COMPUTE = ("cpu", "memory")


def _sum_compute(into: dict[str, int], amounts: dict[str, Any]) -> set[str]:
    found = set()
    for name in _COMPUTE:
        if name in amounts:
            value = quantity.parse(amounts[name])
            if value > 0:
                into[name] = into.get(name, 0) + value
                found.add(name)
    return found


def pod_qos(spec: Object) -> str:
    """Guaranteed, Burstable or BestEffort."""
    requests: dict[str, int] = {}
    limits: dict[str, int] = {}
    guaranteed = True
    pod_level = spec.get("resources")
    if pod_level is not None and (pod_level.get("requests") or pod_level.get("limits")):
        sources = [pod_level]
    else:
        sources = [
            container.get("resources") or {}
            for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
        ]
    for resources in sources:
        if not resources:
            guaranteed = False
            continue
        if "requests" in resources:
            _sum_compute(requests, resources["requests"])
        if len(_sum_compute(limits, resources.get("limits") or {})) < 2:
            guaranteed = False
    if not requests and not limits:
        return "BestEffort"
    if guaranteed and requests == limits:
        return "Guaranteed"
    return "Burstable"


def prepare_pod(obj: Object) -> None:
    spec = obj["spec"]
    obj["metadata"]["generation"] = 1
    obj["status"] = {"phase": "Pending", "qosClass": pod_qos(spec)}
    if spec.get("terminationGracePeriodSeconds", 0) < 0:
        spec["terminationGracePeriodSeconds"] = 1
    if spec.get("schedulingGates"):
        obj["status"]["conditions"] = [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": None,
                "lastTransitionTime": obj["metadata"].get("creationTimestamp"),
            }
        ]
    if "annotations" in obj["metadata"]:
        _apply_app_armor(spec, obj["metadata"]["annotations"] or {})
    labels = obj["metadata"].get("labels") or {}
    if "affinity" in spec:
        for kind in ("podAffinity", "podAntiAffinity"):
            _apply_affinity_keys(spec["affinity"].get(kind) or {}, labels)
    for constraint in spec.get("topologySpreadConstraints") or ():
        selector = constraint.get("labelSelector")
        if selector is not None:
            _apply_label_keys(selector, constraint.get("matchLabelKeys"), "In", labels)


APP_ARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"


def app_armor_profile(annotation: str) -> Object | None:
    """The field that a container's deprecated annotation stands for."""
    if annotation == "unconfined":
        return {"type": "Unconfined"}
    if annotation == "runtime/default":
        return {"type": "RuntimeDefault"}
    profile = annotation.removeprefix("localhost/")
    return {"type": "Localhost", "localhostProfile": profile} if profile and profile != annotation else None


def _apply_app_armor(spec: Object, annotations: dict[str, str]) -> None:
    """Of Linux pods: annotations become fields (upstream's applyAppArmorVersionSkew)."""
    if (spec.get("os") or {}).get("name") == "windows":
        return
    of_pod = (spec.get("securityContext") or {}).get("appArmorProfile")
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(field) or ():
            annotation = annotations.get(APP_ARMOR_ANNOTATION + container.get("name", ""))
            if annotation is None or "appArmorProfile" in (container.get("securityContext") or {}):
                continue
            profile = app_armor_profile(annotation)
            if profile is not None and profile != of_pod:
                container.setdefault("securityContext", {})["appArmorProfile"] = profile


def _apply_affinity_keys(affinity: Object, labels: dict[str, str]) -> None:
    terms = list(affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
    for preferred in affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ():
        terms.append(preferred.get("podAffinityTerm") or {})
    for term in terms:
        selector = term.get("labelSelector")
        if selector is not None:
            _apply_label_keys(selector, term.get("matchLabelKeys"), "In", labels)
            _apply_label_keys(selector, term.get("mismatchLabelKeys"), "NotIn", labels)


def _apply_label_keys(selector: Object, keys: list[str] | None, operator: str, labels: dict[str, str]) -> None:
    for key in keys or ():
        if key in labels:
            requirement = {"key": key, "operator": operator, "values": [labels[key]]}
            selector.setdefault("matchExpressions", []).append(requirement)


def update_pod(new: Object, old: Object) -> None:
    keep_status(new, old)
    if new["spec"] != old["spec"]:
        _next_generation(new, old)
    else:
        keep_generation(new, old)


def pod_status(new: Object, old: Object) -> None:
    status_only(new, old)
    keep(new["metadata"], old["metadata"], "ownerReferences")
    status = new.setdefault("status", {})
    old_status = old.get("status") or {}
    if not status.get("qosClass") and old_status.get("qosClass"):
        status["qosClass"] = old_status["qosClass"]


def pod_grace_period(obj: Object, asked: int | None) -> int:
    """Seconds; 0 means gone at once: unassigned and finished pods."""
    spec = obj.get("spec") or {}
    period = asked if asked is not None else spec.get("terminationGracePeriodSeconds") or 0
    if not spec.get("nodeName") or (obj.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
        return 0
    return 1 if period < 0 else int(period)


# Others


def prepare_limit_range(obj: Object) -> None:
    """A limit range without a name is named after its uid."""
    metadata = obj["metadata"]
    if not metadata.get("name"):
        metadata["name"] = metadata.get("uid", "")


def prepare_namespace(obj: Object) -> None:
    obj["status"] = {"phase": "Active"}
    spec = obj.setdefault("spec", {})
    finalizers = spec.setdefault("finalizers", [])
    if "kubernetes" not in finalizers:
        finalizers.append("kubernetes")
    name = obj["metadata"].get("name")
    if name:
        obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = name


def update_namespace(new: Object, old: Object) -> None:
    keep_status_only(new, old)
    spec = new.setdefault("spec", {})
    keep(spec, old.get("spec") or {}, "finalizers")


def namespace_finalize(new: Object, old: Object) -> None:
    keep_status_only(new, old)


def prepare_daemon_set(make: MakeStatus) -> Prepare:
    def prepare(obj: Object) -> None:
        obj["status"] = make()
        obj["metadata"]["generation"] = 1
        annotations = obj["metadata"].setdefault("annotations", {})
        if _template_generation(annotations) < 1:
            annotations[TEMPLATE_GENERATION] = "1"

    return prepare


def _template_generation(annotations: dict[str, str]) -> int:
    text = annotations.get(TEMPLATE_GENERATION, "0")
    return int(text) if text.isdigit() else 0


def update_daemon_set(new: Object, old: Object) -> None:
    """The template's own generation lives on in an annotation."""
    keep_status(new, old)
    count = _template_generation(old["metadata"].get("annotations") or {})
    template = new["spec"].get("template") != old["spec"].get("template")
    new["metadata"].setdefault("annotations", {})[TEMPLATE_GENERATION] = str(count + 1 if template else count)
    if template or new["spec"] != old["spec"]:
        _next_generation(new, old)
    else:
        keep_generation(new, old)


def prepare_job(make: MakeStatus) -> Prepare:
    def prepare(obj: Object) -> None:
        if not obj["spec"].get("manualSelector"):
            _generate_selector(obj)
        obj["status"] = make()
        obj["metadata"]["generation"] = 1

    return prepare


def _generate_selector(obj: Object) -> None:
    metadata, spec = obj["metadata"], obj["spec"]
    template = spec.setdefault("template", {}).setdefault("metadata", {})
    labels = template.setdefault("labels", {})
    for label in ("job-name", "batch.kubernetes.io/job-name"):
        labels.setdefault(label, metadata.get("name", ""))
    for label in ("controller-uid", "batch.kubernetes.io/controller-uid"):
        labels.setdefault(label, metadata.get("uid", ""))
    if not metadata.get("labels"):
        metadata["labels"] = dict(labels)
    match = spec.setdefault("selector", {}).setdefault("matchLabels", {})
    match.setdefault("batch.kubernetes.io/controller-uid", metadata.get("uid", ""))


def prepare_attributes_class(obj: Object) -> None:
    """Held while volumes use it (upstream's StorageObjectInUseProtection admission)."""
    finalizers = obj["metadata"].setdefault("finalizers", [])
    if "kubernetes.io/vac-protection" not in finalizers:
        finalizers.append("kubernetes.io/vac-protection")


def prepare_persistent_volume(obj: Object) -> None:
    obj["status"] = {"phase": "Pending", "lastPhaseTransitionTime": obj["metadata"].get("creationTimestamp")}


def prepare_claim(obj: Object) -> None:
    obj["status"] = {"phase": "Pending"}
    normalise_data_sources(obj["spec"])


def update_claim(new: Object, old: Object) -> None:
    keep_status_only(new, old)
    normalise_data_sources(new["spec"])


_SOURCES = (("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot"))


def normalise_data_sources(spec: Object) -> None:
    """dataSource and dataSourceRef say the same where both can; what dataSource can't say is dropped."""
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    if source is not None and reference is None and (source.get("apiGroup") or "", source.get("kind")) not in _SOURCES:
        del spec["dataSource"]
        return
    if source is not None and reference is None:
        spec["dataSourceRef"] = dict(source)
    elif reference is not None and source is None and not reference.get("namespace"):
        group, kind = reference.get("apiGroup") or "", reference.get("kind")
        if (group, kind) in _SOURCES:
            spec["dataSource"] = dict(reference)


def update_secret(new: Object, old: Object) -> None:
    keep_generation(new, old)
    if not new.get("type"):
        keep(new, old, "type")


def update_service(new: Object, old: Object) -> None:
    """Fields that the server filled for the old type go with it, unless the client changed them."""
    keep_status_only(new, old)
    was, spec = old["spec"], new["spec"]
    old_type, new_type = was.get("type"), spec.get("type")
    keep_allocations(spec, was)
    if old_type == new_type:
        return
    if old_type != "ExternalName" and new_type == "ExternalName":
        if spec.get("clusterIP") == was.get("clusterIP") and spec.get("clusterIPs") == was.get("clusterIPs"):
            spec.pop("clusterIP", None)
            spec.pop("clusterIPs", None)
        for field in ("ipFamilies", "ipFamilyPolicy"):
            if spec.get(field) == was.get(field):
                spec.pop(field, None)
    _drop_ports(spec, was)
    if old_type == "LoadBalancer":
        for field in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
            if spec.get(field) == was.get(field):
                spec.pop(field, None)
    if _outside(was) and not _outside(spec) and spec.get("externalTrafficPolicy") == was.get("externalTrafficPolicy"):
        spec.pop("externalTrafficPolicy", None)
    if new_type != "LoadBalancer":
        new["status"] = {**(new.get("status") or {}), "loadBalancer": {}}


def keep_allocations(spec: Object, was: Object) -> None:
    """What the server allocated stays when an update leaves it out (upstream's patchAllocatedValues)."""
    if was.get("type") != "ExternalName" and spec.get("type") != "ExternalName":
        if not spec.get("clusterIP") and not spec.get("clusterIPs"):
            keep(spec, was, "clusterIP")
            keep(spec, was, "clusterIPs")
        elif not spec.get("clusterIPs") and spec.get("clusterIP") == was.get("clusterIP"):
            keep(spec, was, "clusterIPs")
        for field in ("ipFamilies", "ipFamilyPolicy"):
            if field not in spec:
                keep(spec, was, field)
    if _node_ports(was) and _node_ports(spec):
        taken = {port.get("nodePort") for port in spec.get("ports") or ()}
        old_ports = {(port.get("protocol"), port.get("port")): port.get("nodePort") for port in was.get("ports") or ()}
        for port in spec.get("ports") or ():
            if not port.get("nodePort"):
                known = old_ports.get((port.get("protocol"), port.get("port")))
                if known and known not in taken:
                    port["nodePort"] = known
                    taken.add(known)
    if _health_port(was) and _health_port(spec) and not spec.get("healthCheckNodePort"):
        keep(spec, was, "healthCheckNodePort")


def _drop_ports(spec: Object, was: Object) -> None:
    if _node_ports(was) and not _node_ports(spec):
        before = [port.get("nodePort") for port in was.get("ports") or ()]
        ports = spec.get("ports") or []
        if [port.get("nodePort") for port in ports] == before or all(port.get("nodePort") in before for port in ports):
            for port in ports:
                port.pop("nodePort", None)
    if (
        _health_port(was)
        and not _health_port(spec)
        and spec.get("healthCheckNodePort") == was.get("healthCheckNodePort")
    ):
        spec.pop("healthCheckNodePort", None)


def _outside(spec: Object) -> bool:
    kind = spec.get("type")
    return kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and bool(spec.get("externalIPs")))


def _node_ports(spec: Object) -> bool:
    kind = spec.get("type")
    return kind == "NodePort" or (kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False)


def _health_port(spec: Object) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def update_endpoint_slice(new: Object, old: Object) -> None:
    changed = any(new.get(field) != old.get(field) for field in ("endpoints", "ports", "addressType"))
    if changed or (new["metadata"].get("labels") or {}) != (old["metadata"].get("labels") or {}):
        _next_generation(new, old)
    else:
        keep_generation(new, old)


def prepare_signing_request(make: MakeStatus) -> Prepare:
    """The requester's name and groups are filled by admission, which knows the user."""

    def prepare(obj: Object) -> None:
        obj["status"] = make()

    return prepare
