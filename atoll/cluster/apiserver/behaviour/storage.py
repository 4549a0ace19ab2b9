"""Checks of volumes, claims and storage.k8s.io/v1 (upstream's pkg/apis/core, pkg/apis/storage validation)."""

from __future__ import annotations

from atoll.base import quantity
from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import checks
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.behaviour.internal import difference
from atoll.cluster.apiserver.behaviour.podspec import node_selector
from atoll.cluster.apiserver.behaviour.volumes import driver_name
from atoll.cluster.apiserver.problems import bad_value, duplicate, not_allowed, not_supported, required, too_long

_ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_VOLUME_MODES = ("Block", "Filesystem")
_RECLAIM = ("Delete", "Recycle", "Retain")
_GROUP_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")
_NOT_SOURCES = frozenset(
    (
        "accessModes", "capacity", "claimRef", "mountOptions", "nodeAffinity", "persistentVolumeReclaimPolicy",
        "storageClassName", "volumeAttributesClassName", "volumeMode",
    )
)  # fmt: skip


def _access_modes(errors: Errors, path: str, modes: list[str] | None, why: str) -> None:
    if not modes:
        errors.append(required(path, why))
        return
    for mode in modes:
        if mode not in _ACCESS_MODES:
            errors.append(not_supported(path, mode, _ACCESS_MODES))
    if "ReadWriteOncePod" in modes and len(set(modes) & set(_ACCESS_MODES)) > 1:
        errors.append(not_allowed(path, "may not use ReadWriteOncePod with other access modes"))


def _positive_amount(errors: Errors, path: str, amount: str) -> bool:
    if quantity.parse(amount) <= 0:
        errors.append(bad_value(path, amount, "must be greater than zero"))
        return False
    return True


def validate_claim_spec(errors: Errors, path: str, spec: Object) -> None:
    _access_modes(errors, f"{path}.accessModes", spec.get("accessModes"), "at least 1 access mode is required")
    checks.label_selector(errors, f"{path}.selector", spec.get("selector"))
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if storage is None:
        errors.append(required(f"{path}.resources[storage]"))
    else:
        _positive_amount(errors, f"{path}.resources[storage]", storage)
    if spec.get("storageClassName"):
        checks.named(errors, f"{path}.storageClassName", spec["storageClassName"], names.dns_subdomain)
    mode = spec.get("volumeMode")
    if mode is not None and mode not in _VOLUME_MODES:
        errors.append(not_supported(f"{path}.volumeMode", mode, _VOLUME_MODES))
    for field in ("dataSource", "dataSourceRef"):
        source = spec.get(field)
        if source is not None:
            _data_source(errors, f"{path}.{field}", source)


def _data_source(errors: Errors, path: str, source: Object) -> None:
    if not source.get("name"):
        errors.append(required(f"{path}.name"))
    if not source.get("kind"):
        errors.append(required(f"{path}.kind"))
    group = source.get("apiGroup") or ""
    if not group and source.get("kind") != "PersistentVolumeClaim":
        why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        errors.append(bad_value(path, source.get("kind", ""), why))


def claim(obj: Object) -> Errors:
    errors: Errors = []
    validate_claim_spec(errors, "spec", obj["spec"])
    return errors


def claim_update(new: Object, old: Object) -> Errors:
    errors = claim(new)
    spec, was = dict(new["spec"]), dict(old["spec"])
    bound = (new.get("status") or {}).get("phase") == "Bound"
    if not was.get("volumeName"):
        was["volumeName"] = spec.get("volumeName")
        spec.setdefault("volumeName", None)
    if was.get("storageClassName") is None and spec.get("storageClassName") is not None:
        was["storageClassName"] = spec["storageClassName"]  # the default class, assigned afterwards
    new_requests = (spec.get("resources") or {}).get("requests") or {}
    old_requests = (was.get("resources") or {}).get("requests") or {}
    if bound:
        resources = dict(spec.get("resources") or {})
        resources["requests"] = {**new_requests, "storage": old_requests.get("storage")}
        spec["resources"] = resources
        spec["volumeAttributesClassName"] = was.get("volumeAttributesClassName")
        was.setdefault("volumeAttributesClassName", None)
    if spec != was:
        why = (
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        )
        changed = difference("core.PersistentVolumeClaimSpec", was, spec)
        errors.append(not_allowed("spec", f"{why}\n{changed}"))
    size, before = new_requests.get("storage"), old_requests.get("storage")
    if size is not None and before is not None and quantity.parse(size) < quantity.parse(before):
        capacity = ((old.get("status") or {}).get("capacity") or {}).get("storage", "0")
        if quantity.parse(size) <= quantity.parse(capacity):
            why = "field can not be less than status.capacity"
            errors.append(not_allowed("spec.resources.requests.storage", why))
    checks.immutable(errors, "volumeMode", new["spec"].get("volumeMode"), old["spec"].get("volumeMode"))
    return errors


def volume(obj: Object) -> Errors:
    errors: Errors = []
    spec = obj["spec"]
    _access_modes(errors, "spec.accessModes", spec.get("accessModes"), "")
    capacity = spec.get("capacity") or {}
    if not capacity:
        errors.append(required("spec.capacity"))
    if "storage" not in capacity or len(capacity) > 1:
        errors.append(not_supported("spec.capacity", spec.get("capacity"), ("storage",)))
    for name, amount in capacity.items():
        path = f"spec.capacity[{name}]"
        if quantity.parse(amount) < 0:
            errors.append(bad_value(path, quantity.units(amount), "must be a valid resource quantity"))
        _positive_amount(errors, path, amount)
    policy = spec.get("persistentVolumeReclaimPolicy")
    if policy and policy not in _RECLAIM:
        errors.append(not_supported("spec.persistentVolumeReclaimPolicy", policy, _RECLAIM))
    affinity = (spec.get("nodeAffinity") or {}).get("required")
    if "nodeAffinity" in spec and affinity is None:
        errors.append(required("spec.nodeAffinity.required", "must specify required node constraints"))
    elif affinity is not None:
        node_selector(errors, "spec.nodeAffinity.required", affinity)
    _volume_source(errors, spec, has_affinity=affinity is not None)
    if spec.get("storageClassName"):
        checks.named(errors, "spec.storageClassName", spec["storageClassName"], names.dns_subdomain)
    mode = spec.get("volumeMode")
    if mode is not None and mode not in _VOLUME_MODES:
        errors.append(not_supported("spec.volumeMode", mode, _VOLUME_MODES))
    return errors


def _volume_source(errors: Errors, spec: Object, *, has_affinity: bool) -> None:
    sources = [field for field in spec if field not in _NOT_SOURCES]
    for extra in sources[1:]:
        errors.append(not_allowed(f"spec.{extra}", "may not specify more than 1 volume type"))
    if not sources:
        errors.append(required("spec", "must specify a volume type"))
    path = (spec.get("hostPath") or {}).get("path")
    if "hostPath" in spec:
        if not path:
            errors.append(required("spec.hostPath.path"))
        else:
            checks.no_backsteps(errors, "spec.hostPath.path", path)
            if path.rstrip("/") == "" and spec.get("persistentVolumeReclaimPolicy") == "Recycle":
                why = "may not be 'recycle' for a hostPath mount of '/'"
                errors.append(not_allowed("spec.persistentVolumeReclaimPolicy", why))
    if "local" in spec:
        if not spec["local"].get("path"):
            errors.append(required("spec.local.path"))
        if not has_affinity:
            errors.append(required("spec.nodeAffinity", "Local volume requires node affinity"))
    if "csi" in spec and not spec["csi"].get("volumeHandle"):
        errors.append(required("spec.csi.volumeHandle"))


def volume_update(new: Object, old: Object) -> Errors:
    errors = volume(new)

    def sources(spec: Object) -> Object:
        return {field: value for field, value in spec.items() if field not in _NOT_SOURCES}

    if sources(new["spec"]) != sources(old["spec"]):
        changed = difference("core.PersistentVolumeSource", old["spec"], new["spec"])
        why = f"spec.persistentvolumesource is immutable after creation\n{changed}"
        errors.append(not_allowed("spec.persistentvolumesource", why))
    checks.immutable(errors, "volumeMode", new["spec"].get("volumeMode"), old["spec"].get("volumeMode"))
    if "nodeAffinity" in old["spec"]:
        checks.immutable(errors, "nodeAffinity", new["spec"].get("nodeAffinity"), old["spec"]["nodeAffinity"])
    return errors


def storage_class(obj: Object) -> Errors:
    errors: Errors = []
    provisioner = obj.get("provisioner", "")
    if not provisioner:
        errors.append(required("provisioner"))
    else:
        for message in names.qualified_name(provisioner.lower()):
            errors.append(bad_value("provisioner", provisioner.lower(), message))
    parameters = obj.get("parameters") or {}
    if len(parameters) > 512:
        errors.append(too_long("parameters", 512))
    for key in parameters:
        if not key:
            errors.append(bad_value("parameters", key, "field can not be empty."))
    policy = obj.get("reclaimPolicy")
    if policy and policy not in ("Delete", "Retain"):
        errors.append(not_supported("reclaimPolicy", policy, ("Delete", "Retain")))
    mode = obj.get("volumeBindingMode")
    if mode not in ("Immediate", "WaitForFirstConsumer"):
        errors.append(not_supported("volumeBindingMode", mode or "", ("Immediate", "WaitForFirstConsumer")))
    return errors


def storage_class_update(new: Object, old: Object) -> Errors:
    errors: Errors = []
    for field in ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"):
        checks.immutable(errors, field, new.get(field), old.get(field))
    return errors


def attachment(obj: Object) -> Errors:
    errors: Errors = []
    spec = obj["spec"]
    if not spec.get("attacher"):
        errors.append(required("spec.attacher"))
    source = spec.get("source") or {}
    if source.get("persistentVolumeName") is None and source.get("inlineVolumeSpec") is None:
        errors.append(required("spec.source", "must specify exactly one of inlineVolumeSpec and persistentVolumeName"))
    checks.named(errors, "spec.nodeName", spec.get("nodeName", ""), names.dns_subdomain)
    return errors


def csi_driver(obj: Object) -> Errors:
    errors: Errors = []
    spec = obj.get("spec") or {}
    policy, modes = spec.get("fsGroupPolicy"), spec.get("volumeLifecycleModes") or ()
    if policy is not None and policy not in _GROUP_POLICIES:
        errors.append(not_supported("spec.fsGroupPolicy", policy, _GROUP_POLICIES))
    for mode in modes:
        if mode not in ("Persistent", "Ephemeral"):
            errors.append(not_supported("spec.volumeLifecycleModes", mode, ("Persistent", "Ephemeral")))
    return errors


def csi_driver_update(new: Object, old: Object) -> Errors:
    errors = csi_driver(new)
    for field in ("attachRequired", "volumeLifecycleModes"):
        checks.immutable(errors, f"spec.{field}", new["spec"].get(field), old["spec"].get(field))
    return errors


def csi_node(obj: Object) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for index, driver in enumerate((obj.get("spec") or {}).get("drivers") or ()):
        path, name = f"spec.drivers[{index}]", driver.get("name", "")
        driver_name(errors, f"{path}.name", name)
        if not driver.get("nodeID"):
            errors.append(required(f"{path}.nodeID"))
        if name in seen:
            errors.append(duplicate(f"{path}.name", name))
        seen.add(name)
    return errors


def storage_capacity(obj: Object) -> Errors:
    errors: Errors = []
    checks.named(errors, "storageClassName", obj.get("storageClassName", ""), names.dns_subdomain)
    for field in ("capacity", "maximumVolumeSize"):
        amount = obj.get(field)
        if amount is not None and quantity.parse(amount) < 0:
            errors.append(bad_value(field, amount, "must be greater than or equal to 0"))
    checks.label_selector(errors, "nodeTopology", obj.get("nodeTopology"))
    return errors


def storage_capacity_update(new: Object, old: Object) -> Errors:
    errors = storage_capacity(new)
    for field in ("nodeTopology", "storageClassName"):
        checks.immutable(errors, field, new.get(field), old.get(field))
    return errors


def attributes_class(obj: Object) -> Errors:
    errors: Errors = []
    driver_name(errors, "driverName", obj.get("driverName", ""))
    if not obj.get("parameters"):
        errors.append(required("parameters", "must contain at least one key/value pair"))
    return errors


def attributes_class_update(new: Object, old: Object) -> Errors:
    errors: Errors = []
    for field in ("driverName", "parameters"):
        if new.get(field) != old.get(field):
            errors.append(not_allowed(field, f"updates to {field} are forbidden."))
    return errors


def attachment_update(new: Object, old: Object) -> Errors:
    errors = attachment(new)
    checks.immutable(errors, "spec", new["spec"], old["spec"])
    return errors
