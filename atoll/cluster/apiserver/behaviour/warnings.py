"""Warnings that upstream sends with a write (pkg/api/*/warnings.go and the strategies' WarningsOnCreate)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from atoll.base import quantity
from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import strategy
from atoll.cluster.apiserver.behaviour.defaulting import Object

Warn = Callable[[Object, Object | None], list[str]]

_DEPRECATED_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
}
_DEPRECATED_VOLUMES = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "deprecated in v1.11, and disabled by default in v1.33+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}
_NULL_SELECTOR = "a null labelSelector results in matching no pod"
_DNS_LABEL = "which can result in surprising behavior; a DNS label is recommended: "


def _bracketed(messages: tuple[str, ...]) -> str:
    return "[" + " ".join(messages) + "]"


def pod(obj: Object, old: Object | None) -> list[str]:
    """Only on create: pods are updated far too often."""
    if old is not None:
        return []
    warnings: list[str] = []
    problems = names.dns_label(obj["metadata"].get("name", ""))
    if problems:
        warnings.append(f"metadata.name: this is used in the Pod's hostname, {_DNS_LABEL}{_bracketed(problems)}")
    if "annotations" in obj["metadata"]:
        warnings += _app_armor(obj["spec"], obj["metadata"]["annotations"] or {})
    return warnings + _pod("", obj["spec"], obj["metadata"])


def _app_armor(spec: Object, annotations: dict[str, str]) -> list[str]:
    """Of annotations that became fields, or could not."""
    warnings: list[str] = []
    if (spec.get("os") or {}).get("name") == "windows":
        return warnings
    for _, container in _containers("", spec):
        key = strategy.APP_ARMOR_ANNOTATION + container.get("name", "")
        if key not in annotations:
            continue
        profile = strategy.app_armor_profile(annotations[key])
        if profile is None or profile == (container.get("securityContext") or {}).get("appArmorProfile"):
            why = 'deprecated since v1.30; use the "appArmorProfile" field instead'
            warnings.append(f"metadata.annotations[{key}]: {why}")
    return warnings


def _pod(prefix: str, spec: Object, metadata: Object) -> list[str]:
    """`prefix` ends with a dot, or is empty for a pod."""
    warnings: list[str] = []
    if "nodeSelector" in spec:
        for key in spec["nodeSelector"]:
            if key in _DEPRECATED_LABELS:
                warnings.append(f"{prefix}spec.nodeSelector[{key}]: {_DEPRECATED_LABELS[key]}")
    if "affinity" in spec:
        warnings += _node_affinity(prefix, spec["affinity"].get("nodeAffinity") or {})
    if "topologySpreadConstraints" in spec:
        warnings += _spread(prefix, spec["topologySpreadConstraints"])
    for index, volume in enumerate(spec.get("volumes") or ()):
        if _DEPRECATED_VOLUMES.keys().isdisjoint(volume):
            continue
        for kind in volume:
            if kind in _DEPRECATED_VOLUMES:
                shown = "storageOS" if kind == "storageos" else kind
                warnings.append(f"{prefix}spec.volumes[{index}].{shown}: {_DEPRECATED_VOLUMES[kind]}")
    if "hostAliases" in spec:
        warnings += _repeated(f"{prefix}spec.hostAliases", "ip", spec["hostAliases"])
    if "imagePullSecrets" in spec:
        warnings += _repeated(f"{prefix}spec.imagePullSecrets", "name", spec["imagePullSecrets"])
        for index, secret in enumerate(spec["imagePullSecrets"]):
            if not secret.get("name"):
                warnings.append(f'{prefix}spec.imagePullSecrets[{index}].name: invalid empty name ""')
    if "annotations" in metadata:
        warnings += _seccomp(prefix, spec, metadata["annotations"] or {})
    ports = 0
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(field) or ()):
            ports += len(container.get("ports") or ())
            if len(container.get("env") or ()) > 1 or container.get("resources"):
                _container(warnings, prefix, field, index, container)
    if ports > 1:
        _ports(warnings, prefix, spec)
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        why = "must be >= 0; negative values are invalid and will be treated as 1"
        warnings.append(f"{prefix}spec.terminationGracePeriodSeconds: {why}")
    if "affinity" in spec:
        warnings += _pod_affinity(prefix, spec["affinity"])
    return warnings


def _containers(prefix: str, spec: Object) -> Iterator[tuple[str, Object]]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(field) or ()):
            yield f"{prefix}spec.{field}[{index}]", container


def _node_affinity(prefix: str, affinity: Object) -> list[str]:
    warnings: list[str] = []
    base = f"{prefix}spec.affinity.nodeAffinity"
    terms = [
        (f"{base}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[{index}]", term)
        for index, term in enumerate(
            (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or ()
        )
    ]
    terms += [
        (f"{base}.preferredDuringSchedulingIgnoredDuringExecution[{index}].preference", term.get("preference") or {})
        for index, term in enumerate(affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ())
    ]
    for path, term in terms:
        for index, requirement in enumerate(term.get("matchExpressions") or ()):
            key = requirement.get("key", "")
            if key in _DEPRECATED_LABELS:
                warnings.append(f"{path}.matchExpressions[{index}].key: {key} is {_DEPRECATED_LABELS[key]}")
    return warnings


def _spread(prefix: str, constraints: list[Object]) -> list[str]:
    warnings: list[str] = []
    for index, constraint in enumerate(constraints):
        path = f"{prefix}spec.topologySpreadConstraints[{index}]"
        key = constraint.get("topologyKey", "")
        if key in _DEPRECATED_LABELS:
            warnings.append(f"{path}.topologyKey: {key} is {_DEPRECATED_LABELS[key]}")
        if constraint.get("labelSelector") is None:
            warnings.append(f"{path}.labelSelector: {_NULL_SELECTOR}")
    return warnings


def _repeated(path: str, field: str, items: list[Object]) -> list[str]:
    seen: set[str] = set()
    warnings: list[str] = []
    for index, item in enumerate(items):
        value = item.get(field, "")
        if value in seen:
            warnings.append(f'{path}[{index}].{field}: duplicate {field} "{value}"')
        seen.add(value)
    return warnings


def _seccomp(prefix: str, spec: Object, annotations: dict[str, str]) -> list[str]:
    key = "seccomp.security.alpha.kubernetes.io/pod"
    if key not in annotations or "seccompProfile" in (spec.get("securityContext") or {}):
        return []
    return [f'{prefix}metadata.annotations[{key}]: non-functional in v1.27+; use the "seccompProfile" field instead']


def _container(warnings: list[str], prefix: str, field: str, index: int, container: Object) -> None:
    resources = container.get("resources")
    path = f"{prefix}spec.{field}[{index}]"
    if resources:
        for name in ("memory", "ephemeral-storage"):
            for kind in ("limits", "requests"):
                amount = (resources.get(kind) or {}).get(name)
                if amount is not None and amount[-1:] == "m" and quantity.parse(amount) % quantity.NANO:
                    why = f'fractional byte value "{amount}" is invalid, must be an integer'
                    warnings.append(f"{path}.resources.{kind}[{name}]: {why}")
    variables = container.get("env")
    if variables and len(variables) > 1:
        seen: set[str] = set()
        for place, variable in enumerate(variables):
            name, value = variable.get("name", ""), variable.get("value", "")
            if name in seen:
                reference = f"$({name})"
                if "valueFrom" in variable or value == reference or reference not in value:
                    why = f'hides previous definition of "{name}", which may be dropped when using apply'
                    warnings.append(f"{path}.env[{place}]: {why}")
            seen.add(name)


def _ports(warnings: list[str], prefix: str, spec: Object) -> None:
    taken: dict[tuple[int, str], list[tuple[str, Object]]] = {}
    named: dict[str, str] = {}
    names_late: list[str] = []
    for path, container in _containers(prefix, spec):
        for index, port in enumerate(container.get("ports") or ()):
            at = f"{path}.ports[{index}]"
            others = taken.setdefault((port.get("containerPort", 0), port.get("protocol", "")), [])
            for other_path, other in others:
                _port_clash(warnings, at, port, other_path, other)
            others.append((at, port))
            name = port.get("name")
            if name:
                if name in named:
                    first = named[name]
                    why = "services and probes that select ports by name will use"
                    names_late.append(f'{at}: duplicate port name "{name}" with {first}, {why} {first}')
                else:
                    named[name] = at
    warnings += names_late


def _port_clash(warnings: list[str], at: str, port: Object, other_path: str, other: Object) -> None:
    host, other_host = port.get("hostPort", 0), other.get("hostPort", 0)
    address, other_address = port.get("hostIP", ""), other.get("hostIP", "")
    if address == other_address and host == other_host:
        warnings.append(f"{at}: duplicate port definition with {other_path}")
    elif not host or not other_host:
        warnings.append(f"{at}: overlapping port definition with {other_path}")
    elif host == other_host and bool(address) != bool(other_address):
        warnings.append(f"{at}: dangerously ambiguous port definition with {other_path}")


def _pod_affinity(prefix: str, affinity: Object) -> list[str]:
    warnings: list[str] = []
    for kind in ("podAffinity", "podAntiAffinity"):
        terms = affinity.get(kind) or {}
        base = f"{prefix}spec.affinity.{kind}"
        for index, term in enumerate(terms.get("requiredDuringSchedulingIgnoredDuringExecution") or ()):
            if term.get("labelSelector") is None:
                path = f"{base}.requiredDuringSchedulingIgnoredDuringExecution[{index}].labelSelector"
                warnings.append(f"{path}: {_NULL_SELECTOR}")
        for index, term in enumerate(terms.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
            if (term.get("podAffinityTerm") or {}).get("labelSelector") is None:
                path = f"{base}.preferredDuringSchedulingIgnoredDuringExecution[{index}]"
                warnings.append(f"{path}.podAffinityTerm.labelSelector: {_NULL_SELECTOR}")
    return warnings


def workload(*path: str, check_name: bool = True) -> Warn:
    """Of a kind with a pod template at `path`; on update only when the generation moved."""
    prefix = ".".join(path) + "."

    def warn(obj: Object, old: Object | None) -> list[str]:
        if old is not None and obj["metadata"].get("generation") == old["metadata"].get("generation"):
            return []
        warnings: list[str] = []
        problems = names.dns_label(obj["metadata"].get("name", "")) if check_name and old is None else ()
        if problems:
            why = f"metadata.name: this is used in Pod names and hostnames, {_DNS_LABEL}{_bracketed(problems)}"
            warnings.append(why)
        template: Object = obj
        for step in path:
            template = template.get(step) or {}
        return warnings + _pod(prefix, template.get("spec") or {}, template.get("metadata") or {})

    return warn


_stateful_template = workload("spec", "template", check_name=False)


def stateful_set(obj: Object, old: Object | None) -> list[str]:
    warnings = _stateful_template(obj, old)
    if (obj["spec"].get("revisionHistoryLimit") or 0) < 0:
        why = "a negative value retains all historical revisions; a value >= 0 is recommended"
        warnings.append(f"spec.revisionHistoryLimit: {why}")
    return warnings


def service(obj: Object, old: Object | None) -> list[str]:
    spec = obj["spec"]
    warnings: list[str] = []
    outside = bool(spec.get("externalIPs"))
    kind = spec.get("type")
    if (spec.get("clusterIPs") or [spec.get("clusterIP")])[0] == "None":
        if spec.get("loadBalancerIP"):
            warnings.append("spec.loadBalancerIP is ignored for headless services")
        if outside:
            warnings.append("spec.externalIPs is ignored for headless services")
        if spec.get("sessionAffinity") != "None":
            warnings.append("spec.SessionAffinity is ignored for headless services")
    elif outside and kind != "ExternalName":
        warnings.append("spec.externalIPs is deprecated and may no longer be implemented in some clusters")
    if kind == "ExternalName" and outside:
        warnings.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    if kind != "ExternalName" and spec.get("externalName"):
        warnings.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if spec.get("trafficDistribution") == "PreferClose":
        warnings.append('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"')
    return warnings


def ingress(obj: Object, old: Object | None) -> list[str]:
    key = "kubernetes.io/ingress.class"
    if old is not None or key not in (obj["metadata"].get("annotations") or {}) or "ingressClassName" in obj["spec"]:
        return []
    return [f"annotation \"{key}\" is deprecated, please use 'spec.ingressClassName' instead"]


def volume(obj: Object, old: Object | None) -> list[str]:
    del old
    spec = obj["spec"]
    warnings: list[str] = []
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        why = (
            "The Recycle reclaim policy is deprecated."
            " Instead, the recommended approach is to use dynamic provisioning."
        )
        warnings.append(f"spec.persistentVolumeReclaimPolicy: {why}")
    for kind in ("cephfs", "photonPersistentDisk", "scaleIO", "storageos", "glusterfs", "rbd"):
        if kind in spec:
            shown = "storageOS" if kind == "storageos" else kind
            warnings.append(f"spec.{shown}: {_DEPRECATED_VOLUMES[kind]}")
    return warnings


def claim(obj: Object, old: Object | None) -> list[str]:
    del old
    warnings: list[str] = []
    for kind in ("requests", "limits"):
        amount = ((obj["spec"].get("resources") or {}).get(kind) or {}).get("storage")
        if amount is not None and quantity.parse(amount) % quantity.NANO:
            why = f'fractional byte value "{amount}" is invalid, must be an integer'
            warnings.append(f"spec.resources.{kind}[storage]: {why}")
    return warnings
