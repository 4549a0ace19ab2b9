"""What every kind's metadata must hold on create and update, in upstream's words and order
(apimachinery pkg/api/validation/objectmeta.go, apiserver registry/rest)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atoll.base import clock as clocks
from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.ports import Cause, Object
from atoll.cluster.apiserver.problems import bad_namespace, bad_value, not_allowed, required, too_long

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
_ANNOTATIONS_BYTES = 256 * 1024
_SYSTEM_FIELDS = ("creationTimestamp", "uid", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")
_IMMUTABLE = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
_CHECKED = (*_IMMUTABLE, "generateName", "generation", "labels", "annotations", "ownerReferences", "finalizers")


def fill_system_fields(metadata: Object, uid: str, now: float) -> None:
    """What a create resets and sets."""
    for field in _SYSTEM_FIELDS:
        metadata.pop(field, None)
    metadata["uid"] = uid
    metadata["creationTimestamp"] = clocks.rfc3339(now)


def ensure_namespace(metadata: Object, namespace: str) -> None:
    """The object's namespace becomes the request's ("" for cluster-scoped kinds). Raises BadRequest if they differ."""
    own = metadata.get("namespace") or ""
    if own == namespace:
        if not own:
            metadata.pop("namespace", None)
    elif not own:
        metadata["namespace"] = namespace
    elif not namespace:
        del metadata["namespace"]
    else:
        raise bad_namespace()


def validate(metadata: Object, namespaced: bool, check_name: names.NameCheck) -> list[Cause]:
    """ValidateObjectMeta."""
    causes: list[Cause] = []
    prefix = metadata.get("generateName")
    if prefix:
        for message in check_name(names.as_prefix(prefix)):
            causes.append(bad_value("metadata.generateName", prefix, message))
    name = metadata.get("name")
    if not name:
        causes.append(required("metadata.name", "name or generateName is required"))
    else:
        for message in check_name(name):
            causes.append(bad_value("metadata.name", name, message))
    _validate_namespace(metadata, namespaced, causes)
    if (metadata.get("generation") or 0) < 0:
        causes.append(bad_value("metadata.generation", metadata["generation"], "must be greater than or equal to 0"))
    _validate_maps(metadata, causes)
    owners = metadata.get("ownerReferences")
    if owners:
        causes += _owners(owners)
    finalizers = metadata.get("finalizers")
    if finalizers:
        causes += _finalizers(finalizers)
    return causes


def _validate_namespace(metadata: Object, namespaced: bool, causes: list[Cause]) -> None:
    namespace = metadata.get("namespace")
    if namespaced:
        if not namespace:
            causes.append(required("metadata.namespace"))
        else:
            for message in names.dns_label(namespace):
                causes.append(bad_value("metadata.namespace", namespace, message))
    elif namespace:
        causes.append(not_allowed("metadata.namespace", "not allowed on this type"))


def _validate_maps(metadata: Object, causes: list[Cause]) -> None:
    labels = metadata.get("labels")
    if labels:
        causes += validate_labels(labels, "metadata.labels")
    annotations = metadata.get("annotations")
    if annotations:
        causes += annotation_causes(annotations, "metadata.annotations")


def annotation_causes(annotations: dict[str, str], field: str) -> list[Cause]:
    causes: list[Cause] = []
    size = 0
    for key, value in annotations.items():
        size += len(key) + len(value)
        for message in names.qualified_name(key.lower()):
            causes.append(bad_value(field, key, message))
    if size * 4 > _ANNOTATIONS_BYTES:  # characters; only near the limit are the bytes counted
        size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
        if size > _ANNOTATIONS_BYTES:
            causes.append(too_long(field, _ANNOTATIONS_BYTES))
    return causes


def validate_labels(labels: dict[str, str], field: str) -> list[Cause]:
    causes: list[Cause] = []
    for key, value in labels.items():
        for message in names.qualified_name(key):
            causes.append(bad_value(field, key, message))
        for message in names.label_value(value):
            causes.append(bad_value(field, value, message))
    return causes


def _owners(owners: Sequence[Object]) -> list[Cause]:
    causes: list[Cause] = []
    controller = ""
    for owner in owners:
        base = "metadata.ownerReferences"
        version = owner.get("apiVersion") or ""
        if not version.rpartition("/")[2]:
            causes.append(bad_value(f"{base}.apiVersion", version, "version must not be empty"))
        for field in ("kind", "name", "uid"):
            if not owner.get(field):
                causes.append(bad_value(f"{base}.{field}", owner.get(field) or "", "must not be empty"))
        if version == "v1" and owner.get("kind") == "Event":
            causes.append(bad_value(base, owner, "/v1, Kind=Event is disallowed from being an owner"))
        if owner.get("controller"):
            current = f"{owner.get('kind')}/{owner.get('name')}"
            if controller:
                why = (
                    'Only one reference can have Controller set to true. Found "true" in references for'
                    f" {controller} and {current}"
                )
                causes.append(bad_value(base, list(owners), why))
            else:
                controller = current
    return causes


def _finalizers(finalizers: Sequence[str]) -> list[Cause]:
    causes: list[Cause] = []
    for finalizer in finalizers:
        for message in names.qualified_name(finalizer):
            causes.append(bad_value("metadata.finalizers", finalizer, message))
    if ORPHAN in finalizers and FOREGROUND in finalizers:
        why = f"finalizer {ORPHAN} and {FOREGROUND} cannot be both set"
        causes.append(bad_value("metadata.finalizers", list(finalizers), why))
    return causes


def prepare_update(metadata: Object, old: Object) -> None:
    """What an update can't change silently stays (rest.BeforeUpdate)."""
    if "uid" not in metadata or not metadata["uid"]:
        metadata["uid"] = old.get("uid", "")
    if "creationTimestamp" in old:
        metadata["creationTimestamp"] = old["creationTimestamp"]
    if "deletionTimestamp" in old:
        metadata["deletionTimestamp"] = old["deletionTimestamp"]
    if "deletionGracePeriodSeconds" in old:
        metadata.setdefault("deletionGracePeriodSeconds", old["deletionGracePeriodSeconds"])
    metadata.pop("selfLink", None)


def validate_update(metadata: Object, old: Object, namespaced: bool, custom: bool) -> list[Cause]:
    """ValidateObjectMetaAccessor with path-segment names, then the checks of an update; built-in kinds' strategies
    make the latter once more. What has passed once, and is that very value, passes again."""
    if all(metadata.get(field) is old.get(field) for field in _CHECKED):
        return []
    causes = validate(metadata, namespaced, names.path_segment)
    changes = _update_causes(metadata, old)
    if changes:
        causes += changes if custom else changes * 2
    return causes


def _update_causes(metadata: Object, old: Object) -> list[Cause]:
    causes: list[Cause] = []
    if "deletionTimestamp" in old:
        before = old.get("finalizers") or []
        extra = sorted(set(metadata.get("finalizers") or []) - set(before))
        if extra:
            listed = ", ".join(f'"{item}"' for item in extra)
            why = (
                "no new finalizers can be added if the object is being deleted, found new finalizers"
                f" []string{{{listed}}}"
            )
            causes.append(not_allowed("metadata.finalizers", why))
    for field in _IMMUTABLE:
        new_value, old_value = metadata.get(field), old.get(field)
        if new_value != old_value and (new_value or old_value):
            causes.append(bad_value(f"metadata.{field}", new_value, "field is immutable"))
    _validate_maps(metadata, causes)
    owners = metadata.get("ownerReferences")
    if owners:
        causes += _owners(owners)
    return causes


_STANDARD_FINALIZERS = ("kubernetes", ORPHAN, FOREGROUND)


def builtin_finalizers(metadata: Object) -> list[Cause]:
    """Built-in kinds take only standard finalizers and those that are qualified."""
    return [
        bad_value(
            f"metadata.finalizers[{index}]",
            finalizer,
            "name is neither a standard finalizer name nor is it fully qualified",
        )
        for index, finalizer in enumerate(metadata.get("finalizers") or ())
        if "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS
    ]


def mark_deleting(metadata: Object, now: float, grace_seconds: int = 0) -> None:
    """deletionTimestamp and grace, never later than what stands; generation counts the change."""
    if "deletionTimestamp" not in metadata and metadata.get("generation", 0) > 0:
        metadata["generation"] += 1
    when = clocks.rfc3339(now + grace_seconds)
    standing: Any = metadata.get("deletionTimestamp")
    if standing is None or standing > when:
        metadata["deletionTimestamp"] = when
    metadata["deletionGracePeriodSeconds"] = grace_seconds
