"""Which PersistentVolume suits a claim, and the objects that bind the two (pkg/controller/volume). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from atoll.base import quantity
from atoll.base.names import SIMULATED_LABEL
from atoll.cluster.workloads.common.selectors import compile_selector
from atoll.objects import meta
from atoll.objects.meta import Object, is_deleting, labels

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
PROVISIONER = "volume.kubernetes.io/storage-provisioner"
BETA_PROVISIONER = "volume.beta.kubernetes.io/storage-provisioner"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
NO_PROVISIONER = "kubernetes.io/no-provisioner"


def class_of(obj: Object) -> str:
    """Of a claim or a volume."""
    return str(meta.annotations(obj).get(BETA_CLASS) or obj["spec"].get("storageClassName") or "")


def default_class(classes: Iterable[Object]) -> Object | None:
    """The class marked as default; of several the newest, then the first by name."""
    marked = [item for item in classes if meta.annotations(item).get(DEFAULT_CLASS) == "true"]
    marked.sort(key=lambda item: str(item["metadata"]["name"]))
    marked.sort(key=lambda item: str(item["metadata"].get("creationTimestamp") or ""), reverse=True)
    return marked[0] if marked else None


def requested(claim: Object) -> str:
    return str(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage") or "0")


def is_bigger(size: str, volume: Object) -> bool:
    return quantity.parse(size) > quantity.parse((volume["spec"].get("capacity") or {}).get("storage") or "0")


def is_bound_to(volume: Object, claim: Object) -> bool:
    """Its claimRef names this very claim."""
    reference = volume["spec"].get("claimRef") or {}
    metadata = claim["metadata"]
    if (reference.get("namespace"), reference.get("name")) != (metadata["namespace"], metadata["name"]):
        return False
    return reference.get("uid") in (None, "", metadata["uid"])


def suits(volume: Object, claim: Object) -> bool:
    """Mode, access, size, class and selector."""
    wanted, offered = claim["spec"], volume["spec"]
    if class_of(volume) != class_of(claim):
        return False
    if (wanted.get("volumeMode") or "Filesystem") != (offered.get("volumeMode") or "Filesystem"):
        return False
    if not set(wanted.get("accessModes") or ()) <= set(offered.get("accessModes") or ()):
        return False
    capacity = (offered.get("capacity") or {}).get("storage") or "0"
    if quantity.parse(capacity) < quantity.parse(requested(claim)):
        return False
    selector = wanted.get("selector")
    return selector is None or compile_selector(selector)(labels(volume))


def best_match(claim: Object, volumes: Iterable[Object]) -> Object | None:
    """One that is reserved for the claim, else the smallest free one that suits."""
    candidates = []
    for volume in volumes:
        if is_deleting(volume):
            continue
        if volume["spec"].get("claimRef"):
            if is_bound_to(volume, claim):
                return volume
        elif (volume.get("status") or {}).get("phase") == "Available" and suits(volume, claim):
            capacity = (volume["spec"].get("capacity") or {}).get("storage") or "0"
            candidates.append((quantity.parse(capacity), volume["metadata"]["name"], volume))
    return min(candidates, key=lambda item: item[:2])[2] if candidates else None


def claim_reference(claim: Object) -> Object:
    metadata = claim["metadata"]
    return {
        "kind": "PersistentVolumeClaim",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "apiVersion": "v1",
        "resourceVersion": metadata["resourceVersion"],
    }


def with_claim(volume: Object, claim: Object) -> Object:
    """The volume with its claimRef complete."""
    present = volume["spec"].get("claimRef")
    metadata = volume["metadata"]
    if not present:
        metadata = {**metadata, "annotations": {**meta.annotations(volume), BOUND_BY_CONTROLLER: "yes"}}
    return {**volume, "metadata": metadata, "spec": {**volume["spec"], "claimRef": claim_reference(claim)}}


def with_volume(claim: Object, volume: Object) -> Object:
    """The claim naming its volume."""
    notes = {**meta.annotations(claim), BIND_COMPLETED: "yes"}
    if not claim["spec"].get("volumeName"):
        notes[BOUND_BY_CONTROLLER] = "yes"
    spec = {**claim["spec"], "volumeName": volume["metadata"]["name"]}
    return {**claim, "metadata": {**claim["metadata"], "annotations": notes}, "spec": spec}


def bound_status(claim: Object, volume: Object) -> Object:
    status = {name: value for name, value in (claim.get("status") or {}).items() if name != "conditions"}
    spec = volume["spec"]
    capacity = {"storage": (spec.get("capacity") or {}).get("storage")}
    return {**status, "phase": "Bound", "accessModes": list(spec.get("accessModes") or ()), "capacity": capacity}


def provisioned_volume(claim: Object, storage_class: Object) -> Object:
    """The volume that stands for what a storage provisioner would make: marked as simulated."""
    name = f"pvc-{claim['metadata']['uid']}"
    provisioner = storage_class["provisioner"]
    spec: Object = {
        "capacity": {"storage": requested(claim)},
        "accessModes": list(claim["spec"].get("accessModes") or ()),
        "claimRef": claim_reference(claim),
        "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy") or "Delete",
        "storageClassName": storage_class["metadata"]["name"],
        "volumeMode": claim["spec"].get("volumeMode") or "Filesystem",
        "csi": {"driver": provisioner, "volumeHandle": name},
    }
    if storage_class.get("mountOptions"):
        spec["mountOptions"] = list(storage_class["mountOptions"])
    metadata = {
        "name": name,
        "labels": {SIMULATED_LABEL: "true"},
        "annotations": {PROVISIONED_BY: provisioner},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec}
