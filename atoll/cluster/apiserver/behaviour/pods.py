"""Create and update checks of pods (upstream's ValidatePodCreate, ValidatePodUpdate …)."""

from __future__ import annotations

from collections.abc import Iterable

from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import checks
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.behaviour.internal import difference
from atoll.cluster.apiserver.behaviour.podspec import validate_pod_spec, validate_tolerations
from atoll.cluster.apiserver.behaviour.strategy import pod_qos
from atoll.cluster.apiserver.problems import bad_value, duplicate, not_allowed, required

_MIRROR = "kubernetes.io/config.mirror"
_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_UPDATABLE = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations`"
    " (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it"
    " was previously negative)"
)


def validate_create(pod: Object) -> Errors:
    errors: Errors = []
    spec = pod["spec"]
    _pod(errors, pod)
    if "ephemeralContainers" in spec:
        errors.append(not_allowed("spec.ephemeralContainers", "cannot be set on create"))
    if spec.get("schedulingGates") and spec.get("nodeName"):
        errors.append(not_allowed("spec.nodeName", "cannot be set until all schedulingGates have been cleared"))
    return errors


def _pod(errors: Errors, pod: Object) -> None:
    spec, metadata = pod["spec"], pod["metadata"]
    if "annotations" in metadata:
        _annotations(errors, metadata["annotations"], spec)
    validate_pod_spec(errors, spec, "spec", pod_name=metadata.get("name", ""), is_pod=True)
    if not spec.get("serviceAccountName"):
        for index, volume in enumerate(spec.get("volumes") or ()):
            for place, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
                if "serviceAccountToken" in source:
                    at = f"spec.volumes[{index}].projected.sources[{place}].serviceAccountToken"
                    errors.append(not_allowed(at, "must not be specified when serviceAccountName is not set"))
    for field in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(field) or ()):
            image = container.get("image", "")
            if image != image.strip():
                why = "must not have leading or trailing whitespace"
                errors.append(bad_value(f"spec.{field}[{index}].image", image, why))


def _annotations(errors: Errors, annotations: dict[str, str], spec: Object) -> None:
    if _MIRROR in annotations and not spec.get("nodeName"):
        why = "must set spec.nodeName if mirror pod annotation is set"
        errors.append(bad_value(f"metadata.annotations[{_MIRROR}]", annotations[_MIRROR], why))
    cost = annotations.get(_DELETION_COST)
    if cost is not None and not _is_int32(cost):
        errors.append(bad_value(f"metadata.annotations[{_DELETION_COST}]", cost, "must be a 32bit integer"))


def _is_int32(text: str) -> bool:
    try:
        return not text.startswith("+") and -(2**31) <= int(text) < 2**31 and text == str(int(text))
    except ValueError:
        return False


def validate_update(new: Object, old: Object) -> Errors:
    errors: Errors = []
    spec, was = new["spec"], old["spec"]
    annotations = new["metadata"].get("annotations") or {}
    same = spec == was
    if same:  # it was judged when it was written
        _annotations(errors, annotations, spec)
    else:
        _pod(errors, new)
    _mirror_update(errors, annotations, old["metadata"].get("annotations") or {})
    if same:
        return errors
    for field in ("containers", "initContainers"):
        if not _same_containers(errors, f"spec.{field}", spec.get(field) or [], was.get(field) or []):
            return errors
    if not _deadline(errors, spec, was):
        return errors
    _only_added(errors, spec.get("tolerations") or [], was.get("tolerations") or [])
    _only_deleted_gates(errors, spec.get("schedulingGates") or [], was.get("schedulingGates") or [])
    munged = _without_mutable(errors, spec, was)
    if munged != was:
        changed = difference("core.PodSpec", was, munged)
        errors.append(not_allowed("spec", f"pod updates may not change fields other than {_UPDATABLE}\n{changed}"))
    return errors


def _mirror_update(errors: Errors, new: dict[str, str], old: dict[str, str]) -> None:
    if new.get(_MIRROR) == old.get(_MIRROR):
        return
    verb = "add" if _MIRROR not in old else "remove or update"
    errors.append(not_allowed(f"metadata.annotations[{_MIRROR}]", f"may not {verb} mirror pod annotation"))


def _same_containers(errors: Errors, path: str, new: list[Object], old: list[Object]) -> bool:
    if len(new) != len(old):
        errors.append(not_allowed(path, "pod updates may not add or remove containers"))
        return False
    for index, container in enumerate(new):
        image = container.get("image", "")
        if not image:
            errors.append(required(f"{path}[{index}].image"))
        if image != image.strip():
            why = "must not have leading or trailing whitespace"
            errors.append(bad_value(f"{path}[{index}].image", image, why))
    return True


def _deadline(errors: Errors, spec: Object, was: Object) -> bool:
    new, old = spec.get("activeDeadlineSeconds"), was.get("activeDeadlineSeconds")
    path = "spec.activeDeadlineSeconds"
    if new is not None:
        if not 0 <= new <= checks.MAX_INT32:
            errors.append(bad_value(path, new, checks.inclusive_range(0, checks.MAX_INT32)))
            return False
        if old is not None and old < new:
            errors.append(bad_value(path, new, "must be less than or equal to previous value"))
            return False
    elif old is not None:
        errors.append(bad_value(path, None, "must not update from a positive integer to nil value"))
    return True


def _only_added(errors: Errors, new: list[Object], old: list[Object]) -> None:
    def bare(toleration: Object) -> Object:
        return {key: value for key, value in toleration.items() if key != "tolerationSeconds"}

    present = [bare(toleration) for toleration in new]
    if any(bare(toleration) not in present for toleration in old):
        why = "existing toleration can not be modified except its tolerationSeconds"
        errors.append(not_allowed("spec.tolerations", why))
        return
    validate_tolerations(errors, "spec.tolerations", new)


def _only_deleted_gates(errors: Errors, new: list[Object], old: list[Object]) -> None:
    known = {gate.get("name") for gate in old}
    for index, gate in enumerate(new):
        if gate.get("name") not in known:
            why = f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'"
            errors.append(not_allowed(f"spec.schedulingGates[{index}].name", why))


def _without_mutable(errors: Errors, spec: Object, was: Object) -> Object:
    """The new spec with all that an update may change as it was."""
    munged = dict(spec)
    for field in ("containers", "initContainers"):
        if munged.get(field):
            pairs = zip(munged[field], was[field], strict=True)
            munged[field] = [{**new, "image": old.get("image")} for new, old in pairs]
    for field in ("activeDeadlineSeconds", "schedulingGates", "tolerations"):
        _restore(munged, was, field)
    grace = was.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0 and spec.get("terminationGracePeriodSeconds") == 1:
        munged["terminationGracePeriodSeconds"] = grace
    if was.get("schedulingGates"):
        _gated(errors, munged, was)
    return munged


def _restore(munged: Object, was: Object, field: str) -> None:
    if field in was:
        munged[field] = was[field]
    else:
        munged.pop(field, None)


def _gated(errors: Errors, munged: Object, was: Object) -> None:
    """A gated pod may narrow where it goes."""
    new, old = munged.get("nodeSelector") or {}, was.get("nodeSelector") or {}
    if new != old:
        if any(new.get(key) != value for key, value in old.items()):
            why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
            errors.append(bad_value("spec.nodeSelector", new, why))
        _restore(munged, was, "nodeSelector")
    if (munged.get("affinity") or {}).get("nodeAffinity") != (was.get("affinity") or {}).get("nodeAffinity"):
        affinity = dict(munged.get("affinity") or {})
        _restore(affinity, was.get("affinity") or {}, "nodeAffinity")
        if affinity or "affinity" in was:
            munged["affinity"] = affinity
        else:
            munged.pop("affinity", None)


def validate_status(new: Object, old: Object) -> Errors:
    """A /status write may not unbind the pod nor bring containers back."""
    errors: Errors = []
    spec, was, status = new["spec"], old["spec"], new.get("status") or {}
    if spec.get("nodeName") != was.get("nodeName"):
        errors.append(not_allowed("status.nodeName", "may not be changed directly"))
    nominated = status.get("nominatedNodeName")
    if nominated:
        from_names = names.dns_subdomain(nominated)
        errors += [bad_value("status.nominatedNodeName", nominated, message) for message in from_names]
    for kind, listed in (("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")):
        _no_restart(errors, kind, listed, new, old)
    ips = status.get("podIPs") or ()
    for index, entry in enumerate(ips):
        checks.ip_address(errors, f"status.podIPs[{index}]", entry.get("ip", ""))
    if len(ips) > 1:
        families = [address.version for entry in ips if (address := checks.parse_ip(entry.get("ip", "")))]
        if len(ips) > 2 or len(set(families)) < len(families):
            why = "may specify no more than one IP for each IP family"
            errors.append(bad_value("status.podIPs", list(ips), why))
    _claim_statuses(errors, "status.resourceClaimStatuses", new["spec"], status.get("resourceClaimStatuses") or ())
    extended = status.get("extendedResourceClaimStatus")
    if extended is not None:
        _extended_claim(errors, "status.extendedResourceClaimStatus", new["spec"], extended)
    return errors


def _claim_statuses(errors: Errors, path: str, spec: Object, statuses: Iterable[Object]) -> None:
    """Which ResourceClaims were made for the pod's claims."""
    known = {claim.get("name") for claim in spec.get("resourceClaims") or ()}
    seen: set[str] = set()
    for index, status in enumerate(statuses):
        at, name = f"{path}[{index}]", status.get("name", "")
        if name not in known:
            errors.append(bad_value(f"{at}.name", name, "must match the name of an entry in `spec.resourceClaims`"))
        if name in seen:
            errors.append(duplicate(f"{at}.name", name))
        seen.add(name)
        if status.get("resourceClaimName") is not None:
            checks.named(errors, f"{at}.resourceClaimName", status["resourceClaimName"], names.dns_subdomain)


def _extended_claim(errors: Errors, path: str, spec: Object, status: Object) -> None:
    """Which of a ResourceClaim's requests stand for the extended resources of which container."""
    containers = {item["name"]: item for item in (*(spec.get("initContainers") or ()), *spec["containers"])}
    mappings = status.get("requestMappings") or ()
    if not mappings:
        errors.append(required(f"{path}.requestMappings", "at least one request mapping is required"))
    for index, mapping in enumerate(mappings):
        at = f"{path}.requestMappings[{index}]"
        container = containers.get(mapping.get("containerName", ""))
        if container is None:
            why = "must match the name of an entry in spec.initContainers.name or spec.containers.name"
            errors.append(bad_value(f"{at}.containerName", mapping.get("containerName", ""), why))
        elif mapping.get("resourceName") not in ((container.get("resources") or {}).get("requests") or {}):
            why = (
                "must match the extended resource name of an entry in spec.initContainers.resources.requests or"
                " spec.containers.resources.requests"
            )
            errors.append(bad_value(f"{at}.resourceName", mapping.get("resourceName", ""), why))
        checks.named(errors, f"{path}.requestName", mapping.get("requestName", ""), names.dns_label)
    name = status.get("resourceClaimName")
    if not name:
        errors.append(required(f"{path}.resourceClaimName"))
    else:
        checks.named(errors, f"{path}.resourceClaimName", name, names.dns_subdomain)


def _no_restart(errors: Errors, field: str, listed: str, new: Object, old: Object) -> None:
    """A container that has terminated for good does not start again."""
    policy = new["spec"].get("restartPolicy")
    if policy == "Always":
        return
    after = {item.get("name"): item for item in (new.get("status") or {}).get(field) or ()}
    own_policy = {item.get("name"): item.get("restartPolicy") for item in new["spec"].get(listed) or ()}
    for index, before in enumerate((old.get("status") or {}).get(field) or ()):
        terminated = (before.get("state") or {}).get("terminated")
        if terminated is None or own_policy.get(before.get("name")):
            continue
        if terminated.get("exitCode", 0) != 0 and policy == "OnFailure":
            continue
        current = after.get(before.get("name"))
        if current is not None and (current.get("state") or {}).get("terminated") is None:
            why = "may not be transitioned to non-terminated state"
            errors.append(not_allowed(f"status.{field}[{index}].state", why))


def validate_ephemeral(new: Object, old: Object) -> Errors:
    """Ephemeral containers are only ever added."""
    errors: Errors = []
    _pod(errors, new)
    if _MIRROR in (old["metadata"].get("annotations") or {}):
        return [not_allowed("", "static pods do not support ephemeral containers")]
    by_name = {item.get("name"): item for item in new["spec"].get("ephemeralContainers") or ()}
    for before in old["spec"].get("ephemeralContainers") or ():
        name = before.get("name")
        why = f'existing ephemeral containers "{name}" may not be'
        if name not in by_name:
            errors.append(not_allowed("spec.ephemeralContainers", f"{why} removed\n"))
        elif by_name[name] != before:
            changed = difference("core.EphemeralContainer", before, by_name[name])
            errors.append(not_allowed("spec.ephemeralContainers", f"{why} changed\n{changed}"))
    return errors


def validate_resize(new: Object, old: Object) -> Errors:
    """Only cpu and memory of running containers change, and never so that the quality of service does."""
    errors: Errors = []
    _pod(errors, new)
    if _MIRROR in (old["metadata"].get("annotations") or {}):
        return [not_allowed("", "static pods cannot be resized")]
    before = (old.get("status") or {}).get("qosClass") or pod_qos(old["spec"])
    if before != pod_qos(new["spec"]):
        shown = (new.get("status") or {}).get("qosClass", "")
        errors.append(bad_value("spec", shown, "Pod QOS Class may not change as a result of resizing"))
    for index, pair in enumerate(
        zip(new["spec"].get("containers") or (), old["spec"].get("containers") or (), strict=False)
    ):
        _resized(errors, f"spec.containers[{index}].resources", *pair)
    return errors


def _resized(errors: Errors, path: str, new: Object, old: Object) -> None:
    for kind in ("limits", "requests"):
        after = (new.get("resources") or {}).get(kind) or {}
        before = (old.get("resources") or {}).get(kind) or {}
        if any(name not in after for name in before):
            errors.append(not_allowed(f"{path}.{kind}", f"resource {kind} cannot be removed"))
        others = {name for name in after.keys() | before.keys() if after.get(name) != before.get(name)}
        if others - {"cpu", "memory"}:
            errors.append(not_allowed("spec", "only cpu and memory resources are mutable"))
