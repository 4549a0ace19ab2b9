"""Revisions of a Deployment: which replica set is the new one, its annotations, which old ones may go. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from atoll.cluster.workloads.common.hashing import template_hash
from atoll.objects import meta
from atoll.objects.meta import Object, is_deleting, owner_reference

REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MOST = "deployment.kubernetes.io/max-replicas"
HASH_LABEL = "pod-template-hash"
UNLIMITED = 2**31 - 1
_SKIPPED = {
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MOST,
    "deprecated.deployment.rollback.to",
}
_HISTORY_CHARS = 2000


def revision(obj: Object) -> int:
    """0 where the annotation is absent or no number."""
    text = meta.annotations(obj).get(REVISION, "")
    return int(text) if text.isdigit() else 0


def by_creation(replica_set: Object) -> tuple[str, str]:
    metadata = replica_set["metadata"]
    return metadata.get("creationTimestamp") or "", metadata["name"]


def same_template(one: Object, other: Object) -> bool:
    """Equal but for the label pod-template-hash."""
    if one.get("spec") != other.get("spec"):
        return False
    return _comparable(one.get("metadata")) == _comparable(other.get("metadata"))


def _comparable(metadata: Mapping[str, object] | None) -> dict[str, object]:
    parts = {name: value for name, value in (metadata or {}).items() if value is not None}
    labels = parts.get("labels")
    if isinstance(labels, dict) and HASH_LABEL in labels:
        parts["labels"] = {name: value for name, value in labels.items() if name != HASH_LABEL}
    return {name: value for name, value in parts.items() if value != {}}


def find_new(deployment: Object, replica_sets: Iterable[Object]) -> Object | None:
    """The oldest replica set with the Deployment's template."""
    template = deployment["spec"]["template"]
    for candidate in sorted(replica_sets, key=by_creation):
        if same_template(candidate["spec"]["template"], template):
            return candidate
    return None


def new_annotations(
    deployment: Object, present: Mapping[str, str], number: int, *, sizes: tuple[int, int] | None
) -> dict[str, str]:
    """The new replica set's annotations: the Deployment's, the revision, what revisions it was before."""
    made = dict(present)
    for name, value in meta.annotations(deployment).items():
        if name not in _SKIPPED:
            made[name] = value
    old = present.get(REVISION, "")
    if old and not old.isdigit():
        return made
    if int(old or 0) < number:
        made[REVISION] = str(number)
        if old:
            made[HISTORY] = _longer_history(present.get(HISTORY, ""), old)
    if sizes is not None:
        made.update(size_annotations(*sizes))
    return made


def _longer_history(history: str, old: str) -> str:
    entries = [*history.split(","), old] if history else [old]
    while len(entries) > 1 and len(",".join(entries)) > _HISTORY_CHARS:
        entries.pop(0)
    return ",".join(entries)


def size_annotations(desired: int, most: int) -> dict[str, str]:
    return {DESIRED: str(desired), MOST: str(most)}


def new_replica_set(deployment: Object, replicas: int, number: int, sizes: tuple[int, int]) -> Object:
    """The replica set of the Deployment's template."""
    spec, metadata = deployment["spec"], deployment["metadata"]
    template = spec["template"]
    collisions = (deployment.get("status") or {}).get("collisionCount")
    code = template_hash(template, collisions)
    labels = {**((template.get("metadata") or {}).get("labels") or {}), HASH_LABEL: code}
    selector = spec.get("selector") or {}
    made: Object = {
        "replicas": replicas,
        "selector": {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), HASH_LABEL: code}},
        "template": {**template, "metadata": {**(template.get("metadata") or {}), "labels": labels}},
    }
    if spec.get("minReadySeconds"):
        made["minReadySeconds"] = spec["minReadySeconds"]
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{metadata['name'][: 253 - 1 - len(code)]}-{code}",
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": new_annotations(deployment, {}, number, sizes=sizes),
            "ownerReferences": [owner_reference(deployment)],
        },
        "spec": made,
    }


def superfluous(old: Iterable[Object], limit: int | None) -> list[Object]:
    """Old replica sets beyond the history limit that are empty and have been observed so, oldest first."""
    if limit is None or limit == UNLIMITED:
        return []
    alive = sorted(
        (item for item in old if not is_deleting(item)), key=lambda item: (revision(item), by_creation(item))
    )
    excess = len(alive) - limit
    if excess <= 0:
        return []
    return [item for item in alive[:excess] if _is_empty(item)]


def _is_empty(replica_set: Object) -> bool:
    status = replica_set.get("status") or {}
    observed = status.get("observedGeneration", 0) >= replica_set["metadata"].get("generation", 0)
    return observed and not status.get("replicas") and not replica_set["spec"].get("replicas")
