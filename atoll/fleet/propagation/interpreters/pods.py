"""What pods in templates need, ask for, and were given by the hub's own admission."""

from __future__ import annotations

from typing import Any

from atoll.fleet.model import Requirements
from atoll.fleet.propagation.interpreters.table import Reference
from atoll.scheduling.resources import pod_requests

Object = dict[str, Any]
_TOKEN_VOLUME = "kube-api-access-"


def prune_pod_parent(parent: Object) -> None:
    """Takes away, in place, what a hub's API server adds to a pod and a member adds by itself."""
    metadata = parent.get("metadata") or {}
    if "creationTimestamp" in metadata and metadata["creationTimestamp"] is None:
        parent["metadata"] = {key: value for key, value in metadata.items() if key != "creationTimestamp"}
    spec = parent.get("spec")
    if not isinstance(spec, dict):
        return
    spec.pop("priority", None)
    spec.pop("serviceAccount", None)  # the deprecated twin of serviceAccountName
    if not any(volume.get("name", "").startswith(_TOKEN_VOLUME) for volume in spec.get("volumes") or ()):
        return
    spec["volumes"] = [volume for volume in spec["volumes"] if not volume["name"].startswith(_TOKEN_VOLUME)]
    for field in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(field) or ():
            mounts = container.get("volumeMounts")
            if mounts:
                container["volumeMounts"] = [one for one in mounts if not one["name"].startswith(_TOKEN_VOLUME)]


def requirements(spec: Object | None) -> Requirements:
    """What one replica asks of a node."""
    if not spec:
        return Requirements()
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    return Requirements(
        requests=pod_requests(spec),
        node_selector=spec.get("nodeSelector") or {},
        node_affinity=affinity,
        tolerations=tuple(spec.get("tolerations") or ()),
    )


def pod_references(spec: Object, namespace: str | None) -> list[Reference]:
    """The ConfigMaps, Secrets, service account and claims that a pod names; those marked optional too."""
    found: dict[Reference, None] = {}

    def add(kind: str, name: Any) -> None:
        if name:
            found[Reference("v1", kind, namespace, str(name))] = None

    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        for source in container.get("envFrom") or ():
            add("ConfigMap", (source.get("configMapRef") or {}).get("name"))
            add("Secret", (source.get("secretRef") or {}).get("name"))
        for variable in container.get("env") or ():
            source = variable.get("valueFrom") or {}
            add("ConfigMap", (source.get("configMapKeyRef") or {}).get("name"))
            add("Secret", (source.get("secretKeyRef") or {}).get("name"))
    for secret in spec.get("imagePullSecrets") or ():
        add("Secret", secret.get("name"))
    for volume in spec.get("volumes") or ():
        _volume(volume, add)
    account = spec.get("serviceAccountName")
    if account and account != "default":
        add("ServiceAccount", account)
    return list(found)


def _volume(volume: Object, add: Any) -> None:
    add("ConfigMap", (volume.get("configMap") or {}).get("name"))
    add("Secret", (volume.get("secret") or {}).get("secretName"))
    add("PersistentVolumeClaim", (volume.get("persistentVolumeClaim") or {}).get("claimName"))
    for source in (volume.get("projected") or {}).get("sources") or ():
        add("ConfigMap", (source.get("configMap") or {}).get("name"))
        add("Secret", (source.get("secret") or {}).get("name"))
    for driver in ("azureFile", "cephfs", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos", "csi"):
        reference = volume.get(driver) or {}
        secret = reference.get("secretRef") or reference.get("nodePublishSecretRef") or {}
        add("Secret", reference.get("secretName") or (secret.get("name") if isinstance(secret, dict) else None))
