"""Default storage and ingress classes, protection finalizers, and the first taint of a node."""

from __future__ import annotations

from typing import Any

from atoll.base import quantity
from atoll.cluster.apiserver.admission.errors import forbidden
from atoll.cluster.apiserver.ports import AdmissionRequest
from atoll.cluster.store.port import Key, Store

Object = dict[str, Any]
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_DEFAULT_INGRESS = "ingressclass.kubernetes.io/is-default-class"
_NOT_READY: Object = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}


def default_class(store: Store, resource: str, annotation: str) -> Object | None:
    """The class marked as default; of several the newest, then the first by name."""
    marked = [
        record.object
        for record in store.scan(resource)
        if (record.object["metadata"].get("annotations") or {}).get(annotation) == "true"
    ]
    marked.sort(key=lambda item: str(item["metadata"]["name"]))
    marked.sort(key=lambda item: str(item["metadata"].get("creationTimestamp") or ""), reverse=True)
    return marked[0] if marked else None


class DefaultClass:
    """A created object that names no class gets the default one: `field` of its spec, unless `annotation` names it."""

    def __init__(self, store: Store, resource: str, field: str, annotation: str, classes: str, mark: str) -> None:
        self.resources = frozenset((resource,))
        self._store = store
        self._field = field
        self._annotation = annotation
        self._classes = classes
        self._mark = mark

    def mutate(self, request: AdmissionRequest) -> None:
        if request.operation != "CREATE" or request.subresource or request.obj is None:
            return
        spec = request.obj.get("spec") or {}
        annotations = request.obj["metadata"].get("annotations") or {}
        if self._annotation in annotations or spec.get(self._field) is not None:
            return
        found = default_class(self._store, self._classes, self._mark)
        if found is not None:
            spec[self._field] = found["metadata"]["name"]


def default_storage_class(store: Store) -> DefaultClass:
    """The DefaultStorageClass plugin."""
    return DefaultClass(
        store,
        "persistentvolumeclaims",
        "storageClassName",
        "volume.beta.kubernetes.io/storage-class",
        "storageclasses.storage.k8s.io",
        _DEFAULT_CLASS,
    )


def default_ingress_class(store: Store) -> DefaultClass:
    """The DefaultIngressClass plugin."""
    return DefaultClass(
        store,
        "ingresses.networking.k8s.io",
        "ingressClassName",
        "kubernetes.io/ingress.class",
        "ingressclasses.networking.k8s.io",
        _DEFAULT_INGRESS,
    )


class StorageProtection:
    """StorageObjectInUseProtection: claims and volumes carry a finalizer while a pod or claim uses them."""

    resources = frozenset(("persistentvolumeclaims", "persistentvolumes"))

    def mutate(self, request: AdmissionRequest) -> None:
        if request.operation != "CREATE" or request.subresource or request.obj is None:
            return
        kind = "pvc" if request.resource.plural == "persistentvolumeclaims" else "pv"
        finalizer = f"kubernetes.io/{kind}-protection"
        metadata = request.obj["metadata"]
        finalizers = metadata.get("finalizers") or []
        if finalizer not in finalizers:
            metadata["finalizers"] = [*finalizers, finalizer]


class ClaimResize:
    """PersistentVolumeClaimResize: only bound claims of a class with allowVolumeExpansion grow."""

    resources = frozenset(("persistentvolumeclaims",))

    def __init__(self, store: Store) -> None:
        self._store = store

    def validate(self, request: AdmissionRequest) -> None:
        if request.operation != "UPDATE" or request.subresource or request.obj is None or request.old is None:
            return
        new, old = _requested(request.obj), _requested(request.old)
        if new is None or old is None or quantity.parse(new) <= quantity.parse(old):
            return
        if (request.old.get("status") or {}).get("phase") != "Bound":
            raise forbidden(request, "Only bound persistent volume claims can be expanded")
        name = request.obj["spec"].get("storageClassName") or ""
        record = self._store.get(Key("storageclasses.storage.k8s.io", "", name))
        if record is None or not record.object.get("allowVolumeExpansion"):
            raise forbidden(
                request,
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must "
                "support resize",
            )


def _requested(claim: Object) -> str | None:
    found: str | None = ((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage")
    return found


class NodeTaints:
    """TaintNodesByCondition: a new node is not-ready until the node controller has seen it ready."""

    resources = frozenset(("nodes",))

    def mutate(self, request: AdmissionRequest) -> None:
        if request.operation != "CREATE" or request.subresource or request.obj is None:
            return
        spec = request.obj.setdefault("spec", {})
        taints = spec.get("taints") or []
        if _NOT_READY["key"] not in [taint.get("key") for taint in taints if taint.get("effect") == "NoSchedule"]:
            spec["taints"] = [*taints, dict(_NOT_READY)]
