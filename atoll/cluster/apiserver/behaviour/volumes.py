"""Checks of a pod's volumes and of what mounts them (upstream's pkg/apis/core/validation)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from atoll.base import quantity
from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import checks
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.ports import Cause
from atoll.cluster.apiserver.problems import bad_value, duplicate, not_allowed, not_supported, quoted, required

_HOST_PATH_TYPES = ("", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket")
_VOLUME_FIELDS = frozenset(
    (
        "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid",
    )
)  # fmt: skip
ENV_FIELDS = frozenset(
    (
        "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
        "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
    )
)  # fmt: skip
_KNOWN_FIELDS = ENV_FIELDS | _VOLUME_FIELDS
_RESOURCE_FIELDS = (
    "limits.cpu", "limits.ephemeral-storage", "limits.memory",
    "requests.cpu", "requests.ephemeral-storage", "requests.memory",
)  # fmt: skip
_SIZES = frozenset(("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"))
_CPU_DIVISORS = frozenset(("1m", "1"))
_MANY = "may not specify more than 1 volume type"


def not_found(path: str, value: str) -> Cause:
    return Cause("FieldValueNotFound", f"Not found: {quoted(value)}", path)


def validate_volumes(errors: Errors, path: str, volumes: Iterable[Object], pod_name: str) -> set[str]:
    """The names of the valid ones."""
    found: set[str] = set()
    ephemeral = {f"{pod_name}-{volume.get('name')}" for volume in volumes if pod_name and "ephemeral" in volume}
    for index, volume in enumerate(volumes):
        mine: Errors = []
        at = f"{path}[{index}]"
        name = volume.get("name", "")
        _source(mine, at, volume)
        if not name:
            mine.append(required(f"{at}.name"))
        else:
            checks.named(mine, f"{at}.name", name, names.dns_label)
        if name in found:
            mine.append(duplicate(f"{at}.name", name))
        if mine:
            errors += mine
        else:
            found.add(name)
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if claim is not None and claim in ephemeral:
            why = "must not reference a PVC that gets created for an ephemeral volume"
            errors.append(bad_value(f"{at}.persistentVolumeClaim.claimName", claim, why))
    return found


def _source(errors: Errors, path: str, volume: Object) -> None:
    sources = [name for name in _ORDER if name in volume]
    unknown = [name for name in volume if name != "name" and name not in _CHECKED]
    for index, source in enumerate(sources):
        at = f"{path}.{source}"
        if index and source != "emptyDir":
            errors.append(not_allowed(at, _MANY))
            continue
        check = _CHECKED[source]
        if check is not None:
            check(errors, at, volume[source])
    if not sources and not unknown:
        errors.append(required(path, "must specify a volume type"))


def _empty_dir(errors: Errors, path: str, source: Object) -> None:
    limit = source.get("sizeLimit")
    if limit is not None and quantity.parse(limit) < 0:
        errors.append(not_allowed(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity"))


def _host_path(errors: Errors, path: str, source: Object) -> None:
    if not source.get("path"):
        errors.append(required(f"{path}.path"))
        return
    checks.no_backsteps(errors, f"{path}.path", source["path"])
    kind = source.get("type")
    if kind is not None and kind not in _HOST_PATH_TYPES:
        errors.append(not_supported(f"{path}.type", kind, _HOST_PATH_TYPES))


def _items(errors: Errors, path: str, source: Object) -> None:
    for index, item in enumerate(source.get("items") or ()):
        key_to_path(errors, f"{path}.items[{index}]", item)


def key_to_path(errors: Errors, path: str, item: Object) -> None:
    if not item.get("key"):
        errors.append(required(f"{path}.key"))
    if not item.get("path"):
        errors.append(required(f"{path}.path"))
    checks.relative_path(errors, f"{path}.path", item.get("path", ""))
    checks.file_mode(errors, f"{path}.mode", item.get("mode"))


def _secret(errors: Errors, path: str, source: Object) -> None:
    if not source.get("secretName"):
        errors.append(required(f"{path}.secretName"))
    checks.file_mode(errors, f"{path}.defaultMode", source.get("defaultMode"))
    _items(errors, path, source)


def _config_map(errors: Errors, path: str, source: Object) -> None:
    if not source.get("name"):
        errors.append(required(f"{path}.name"))
    checks.file_mode(errors, f"{path}.defaultMode", source.get("defaultMode"))
    _items(errors, path, source)


def _claim(errors: Errors, path: str, source: Object) -> None:
    if not source.get("claimName"):
        errors.append(required(f"{path}.claimName"))


def _nfs(errors: Errors, path: str, source: Object) -> None:
    if not source.get("server"):
        errors.append(required(f"{path}.server"))
    if not source.get("path"):
        errors.append(required(f"{path}.path"))
    elif not source["path"].startswith("/"):
        errors.append(bad_value(f"{path}.path", source["path"], "must be an absolute path"))


def _csi(errors: Errors, path: str, source: Object) -> None:
    driver_name(errors, f"{path}.driver", source.get("driver", ""))
    secret = source.get("nodePublishSecretRef")
    if secret is not None and not secret.get("name"):
        errors.append(required(f"{path}.nodePublishSecretRef.name"))


def driver_name(errors: Errors, path: str, name: str) -> None:
    """A CSI driver's name."""
    if not name:
        errors.append(required(path))
    if len(name) > 63:
        errors.append(Cause("FieldValueTooLong", "Too long: may not be more than 63 bytes", path))
    checks.named(errors, path, name.lower(), names.dns_subdomain)


def _downward(errors: Errors, path: str, source: Object) -> None:
    checks.file_mode(errors, f"{path}.defaultMode", source.get("defaultMode"))
    for item in source.get("items") or ():
        _downward_file(errors, path, item)


def _downward_file(errors: Errors, path: str, item: Object) -> None:
    if not item.get("path"):
        errors.append(required(f"{path}.path"))
    checks.relative_path(errors, f"{path}.path", item.get("path", ""))
    if "fieldRef" in item:
        field_ref(errors, f"{path}.fieldRef", item["fieldRef"], _VOLUME_FIELDS)
        if "resourceFieldRef" in item:
            why = "fieldRef and resourceFieldRef can not be specified simultaneously"
            errors.append(bad_value(path, "resource", why))
    elif "resourceFieldRef" in item:
        resource_field_ref(errors, f"{path}.resourceFieldRef", item["resourceFieldRef"], volume=True)
    else:
        errors.append(required(path, "one of fieldRef and resourceFieldRef is required"))
    checks.file_mode(errors, f"{path}.mode", item.get("mode"))


def field_ref(errors: Errors, path: str, reference: Object, allowed: frozenset[str]) -> None:
    if not reference.get("apiVersion"):
        errors.append(required(f"{path}.apiVersion"))
        return
    field = reference.get("fieldPath", "")
    if not field:
        errors.append(required(f"{path}.fieldPath"))
        return
    name, bracket, rest = field.partition("['")
    if bracket and rest.endswith("']"):
        subscript = rest[:-2]
        if name == "metadata.annotations":
            checks.named(errors, path, subscript.lower(), names.qualified_name)
        elif name == "metadata.labels":
            checks.named(errors, path, subscript, names.qualified_name)
        else:
            why = f"error converting fieldPath: field label does not support subscript: {field}"
            errors.append(bad_value(f"{path}.fieldPath", field, why))
        return
    if field not in _KNOWN_FIELDS and field != "spec.host":
        why = f"error converting fieldPath: field label not supported: {field}"
        errors.append(bad_value(f"{path}.fieldPath", field, why))
    elif field not in allowed:
        errors.append(not_supported(f"{path}.fieldPath", field, sorted(allowed)))


def resource_field_ref(errors: Errors, path: str, reference: Object, *, volume: bool) -> None:
    resource = reference.get("resource", "")
    if volume and not reference.get("containerName"):
        errors.append(required(f"{path}.containerName"))
    elif not resource:
        errors.append(required(f"{path}.resource"))
    elif resource not in _RESOURCE_FIELDS and not resource.startswith(("requests.hugepages-", "limits.hugepages-")):
        errors.append(not_supported(f"{path}.resource", resource, _RESOURCE_FIELDS))
    divisor = reference.get("divisor") or "0"
    if quantity.parse(divisor) == 0:
        return
    kind = resource.partition(".")[2]
    if kind == "cpu":
        if divisor not in _CPU_DIVISORS:
            why = "only divisor's values 1m and 1 are supported with the cpu resource"
            errors.append(bad_value(f"{path}.divisor", resource, why))
    elif divisor not in _SIZES:
        sizes = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei"
        named = {"ephemeral-storage": "local ephemeral storage", "memory": "memory"}.get(kind, "hugepages")
        why = f"only divisor's values {sizes} are supported with the {named} resource"
        errors.append(bad_value(f"{path}.divisor", resource, why))


def _projected(errors: Errors, path: str, source: Object) -> None:
    checks.file_mode(errors, f"{path}.defaultMode", source.get("defaultMode"))
    paths: set[str] = set()

    def claim(value: str, shown: str) -> None:
        if value in paths:
            errors.append(bad_value(path, shown, "conflicting duplicate paths"))
        paths.add(value)

    for index, projection in enumerate(source.get("sources") or ()):
        at = f"{path}.sources[{index}]"
        for kind in ("secret", "configMap"):
            inner = projection.get(kind)
            if inner is None:
                continue
            if not inner.get("name"):
                errors.append(required(f"{at}.{kind}.name"))
            for place, item in enumerate(inner.get("items") or ()):
                key_to_path(errors, f"{at}.{kind}.items[{place}]", item)
                if item.get("path"):
                    claim(item["path"], inner.get("name", ""))
        if "downwardAPI" in projection:
            for item in projection["downwardAPI"].get("items") or ():
                _downward_file(errors, f"{at}.downwardAPI", item)
                if item.get("path"):
                    claim(item["path"], item["path"])
        if "serviceAccountToken" in projection:
            _token(errors, path, f"{at}.serviceAccountToken", projection["serviceAccountToken"])
        if len(projection) > 1:
            errors.append(not_allowed(at, "may not specify more than 1 volume type per source"))


def _token(errors: Errors, path: str, at: str, token: Object) -> None:
    seconds = token.get("expirationSeconds", 3600)
    if seconds < 600:
        why = "may not specify a duration less than 10 minutes"
        errors.append(bad_value(f"{at}.expirationSeconds", seconds, why))
    if seconds > 1 << 32:
        why = "may not specify a duration larger than 2^32 seconds"
        errors.append(bad_value(f"{at}.expirationSeconds", seconds, why))
    if not token.get("path"):
        errors.append(required(f"{path}.path"))
    else:
        checks.relative_path(errors, f"{path}.path", token["path"])


Check = Callable[[Errors, str, Object], None]
_CHECKED: dict[str, Check | None] = {
    "emptyDir": _empty_dir,
    "hostPath": _host_path,
    "gitRepo": None,
    "gcePersistentDisk": None,
    "awsElasticBlockStore": None,
    "secret": _secret,
    "nfs": _nfs,
    "iscsi": None,
    "glusterfs": None,
    "flocker": None,
    "persistentVolumeClaim": _claim,
    "rbd": None,
    "cinder": None,
    "cephfs": None,
    "quobyte": None,
    "downwardAPI": _downward,
    "fc": None,
    "flexVolume": None,
    "configMap": _config_map,
    "azureFile": None,
    "vsphereVolume": None,
    "photonPersistentDisk": None,
    "portworxVolume": None,
    "azureDisk": None,
    "storageos": None,
    "projected": _projected,
    "scaleIO": None,
    "csi": _csi,
    "ephemeral": None,
    "image": None,
}
_ORDER = tuple(_CHECKED)


def validate_mounts(errors: Errors, path: str, container: Object, volumes: set[str]) -> None:
    mounts = container.get("volumeMounts") or ()
    devices = container.get("volumeDevices") or ()
    if mounts:
        _mounts(errors, f"{path}.volumeMounts", container, volumes)
    if devices:
        _devices(errors, f"{path}.volumeDevices", container, volumes)


def _mounts(errors: Errors, path: str, container: Object, volumes: set[str]) -> None:
    device_names = {device.get("name") for device in container.get("volumeDevices") or ()}
    device_paths = {device.get("devicePath") for device in container.get("volumeDevices") or ()}
    points: set[str] = set()
    for index, mount in enumerate(container["volumeMounts"]):
        at = f"{path}[{index}]"
        name, point = mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            errors.append(required(f"{at}.name"))
        if name not in volumes:
            errors.append(not_found(f"{at}.name", name))
        if not point:
            errors.append(required(f"{at}.mountPath"))
        if point in points:
            errors.append(bad_value(f"{at}.mountPath", point, "must be unique"))
        points.add(point)
        if name in device_names:
            errors.append(bad_value(f"{at}.name", name, "must not already exist in volumeDevices"))
        if point in device_paths:
            errors.append(bad_value(f"{at}.mountPath", point, "must not already exist as a path in volumeDevices"))
        sub, expression = mount.get("subPath"), mount.get("subPathExpr")
        if sub:
            checks.descending_path(errors, f"{path}.subPath", sub)
        if expression:
            if sub:
                why = "subPathExpr and subPath are mutually exclusive"
                errors.append(bad_value(f"{at}.subPathExpr", expression, why))
            checks.descending_path(errors, f"{path}.subPathExpr", expression)
        _propagation(errors, f"{path}.mountPropagation", mount.get("mountPropagation"), container)


def _propagation(errors: Errors, path: str, mode: str | None, container: Object) -> None:
    if mode is None:
        return
    if mode not in ("Bidirectional", "HostToContainer", "None"):
        errors.append(not_supported(path, mode, ("Bidirectional", "HostToContainer", "None")))
    privileged = (container.get("securityContext") or {}).get("privileged")
    if mode == "Bidirectional" and not privileged:
        why = "Bidirectional mount propagation is available only to privileged containers"
        errors.append(not_allowed(path, why))


def _devices(errors: Errors, path: str, container: Object, volumes: set[str]) -> None:
    mounts: list[Any] = container.get("volumeMounts") or []
    seen_names: set[str] = set()
    seen_paths: set[str] = set()
    for index, device in enumerate(container["volumeDevices"]):
        at = f"{path}[{index}]"
        name, target = device.get("name", ""), device.get("devicePath", "")
        if not name:
            errors.append(required(f"{at}.name"))
        if name in seen_names:
            errors.append(bad_value(f"{at}.name", name, "must be unique"))
        if name not in volumes:
            errors.append(not_found(f"{at}.name", name))
        if not target:
            errors.append(required(f"{at}.devicePath"))
        if target in seen_paths:
            errors.append(bad_value(f"{at}.devicePath", target, "must be unique"))
        if ".." in target.split("/"):
            errors.append(bad_value(f"{at}.devicePath", target, "can not contain backsteps ('..')"))
        else:
            seen_paths.add(target)
        if any(mount.get("name") == name for mount in mounts):
            errors.append(bad_value(f"{at}.name", name, "must not already exist in volumeMounts"))
        if any(mount.get("mountPath") == target for mount in mounts):
            errors.append(bad_value(f"{at}.devicePath", target, "must not already exist as a path in volumeMounts"))
        if name:
            seen_names.add(name)
