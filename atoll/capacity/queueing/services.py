"""StatefulSets and LeaderWorkerSets as groups of a queue: the Workloads they need, what makes a pod a member. Pure.

A StatefulSet is one group, each replica of a LeaderWorkerSet another: a leader and its workers. The group has its
Workload's name, which follows from the owner's UID.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from atoll.capacity.queueing.asked import topology_request
from atoll.capacity.queueing.made import workload_name
from atoll.capacity.queueing.model import Object
from atoll.kinds import batch, kueue
from atoll.kinds.builtin import STATEFUL_SETS
from atoll.objects.meta import controller_of, labels

PARENTS: Final = {"StatefulSet": "statefulset", "LeaderWorkerSet": "leaderworkerset.x-k8s.io/leaderworkerset"}
"""By kind, what the pods' annotation pod-suspending-parent says."""
_MAIN, _LEADER, _WORKER = "main", "leader", "worker"
_INDEX_LABEL = "apps.kubernetes.io/pod-index"
_OF_PODS = (
    "nodeSelector", "affinity", "tolerations", "priority", "priorityClassName", "runtimeClassName", "overhead",
    "resourceClaims", "topologySpreadConstraints", "resources",
)  # fmt: skip


def is_queued(owner: Object) -> bool:
    """A StatefulSet of a LeaderWorkerSet is no group of its own."""
    of_set = (controller_of(owner) or {}).get("kind") == batch.LEADER_WORKER_SETS.kind
    return bool(labels(owner).get(kueue.QUEUE_LABEL)) and not of_set


def replicas_of(owner: Object) -> int:
    found = owner["spec"].get("replicas")
    return 1 if found is None else int(found)


def group_name(owner: Object, index: int | str = "") -> str:
    """`index`: of a LeaderWorkerSet, which replica."""
    metadata = owner["metadata"]
    if index == "":
        return workload_name(STATEFUL_SETS.kind, STATEFUL_SETS.group, owner)
    named = {"metadata": {"name": f"{metadata['name']}-{index}", "uid": metadata.get("uid", "")}}
    return workload_name(batch.LEADER_WORKER_SETS.kind, batch.LEADER_WORKER_SETS.group, named)


def groups_of(owner: Object) -> dict[str, list[Object]]:
    """The pod sets of each group that there is or is to be, by its name. While groups surge there are more."""
    if owner["kind"] == STATEFUL_SETS.kind:
        count = replicas_of(owner)
        return {group_name(owner): [_pod_set(_MAIN, count, owner["spec"]["template"])]} if count else {}
    there = int((owner.get("status") or {}).get("replicas") or 0)
    pod_sets = _leader_and_workers(owner)
    return {group_name(owner, index): pod_sets for index in range(max(replicas_of(owner), there))}


def _leader_and_workers(lws: Object) -> list[Object]:
    template = lws["spec"]["leaderWorkerTemplate"]
    size, leader = int(template.get("size", 1)), template.get("leaderTemplate")
    if leader is None:
        return [_pod_set(_MAIN, size, template["workerTemplate"])]
    workers = [_pod_set(_WORKER, size - 1, template["workerTemplate"])] if size > 1 else []
    return [_pod_set(_LEADER, 1, leader, ""), *workers]


def _pod_set(name: str, count: int, template: Object, index_label: str = kueue.POD_INDEX_LABEL) -> Object:
    found: Object = {"name": name, "count": count, "template": template}
    request = topology_request(template, index_label)
    return {**found, "topologyRequest": request} if request else found


def essence_of(template: Mapping[str, Any]) -> Object:
    """What of a pod template decides about quota and flavours."""
    spec = template.get("spec") or {}
    found = {name: spec[name] for name in _OF_PODS if spec.get(name)}
    for name in ("containers", "initContainers"):
        found[name] = [[item.get("resources") or {}, item.get("restartPolicy")] for item in spec.get(name) or ()]
    return found


def essence_of_sets(pod_sets: list[Object]) -> list[Any]:
    return [
        (item["name"], item["count"], essence_of(item["template"]), item.get("topologyRequest")) for item in pod_sets
    ]


def marks_of(owner: Object, pod: Object) -> tuple[dict[str, str], dict[str, str]]:
    """(labels, annotations) by which a pod that is created joins its group; none where its place is unknown."""
    queue = labels(owner)[kueue.QUEUE_LABEL]
    if owner["kind"] == STATEFUL_SETS.kind:
        name, role, total = group_name(owner), _MAIN, replicas_of(owner)
        rank = labels(pod).get(_INDEX_LABEL, "")
        start = int((owner["spec"].get("ordinals") or {}).get("start") or 0)
        rank = str(int(rank) - start) if rank.isdigit() else ""
    else:
        group, worker = _place_of(pod)
        if not group.isdigit() or not worker.isdigit():
            return {}, {}
        template = owner["spec"]["leaderWorkerTemplate"]
        name, total, rank = group_name(owner, group), int(template.get("size", 1)), worker
        role = _MAIN
        if template.get("leaderTemplate") is not None:
            role, rank = (_LEADER, "") if worker == "0" else (_WORKER, str(int(worker) - 1))
    tags = {kueue.QUEUE_LABEL: queue, kueue.MANAGED_LABEL: "true", kueue.POD_GROUP_LABEL: name}
    if rank:
        tags[kueue.POD_INDEX_LABEL] = rank
    return tags, {kueue.POD_GROUP_TOTAL: str(total), kueue.POD_GROUP_SERVING: "true", kueue.ROLE_HASH: role}


def _place_of(pod: Object) -> tuple[str, str]:
    """(group's index, worker's index): by its labels, or its name, as LeaderWorkerSet's webhook reads it."""
    tags = labels(pod)
    ordinal = str(pod["metadata"].get("name") or "").rpartition("-")[2]
    if tags.get(batch.LWS_WORKER) == "0":
        return tags.get(batch.LWS_GROUP, ordinal), "0"
    return tags.get(batch.LWS_GROUP, ""), tags.get(batch.LWS_WORKER, ordinal)


def change_problems(owner: Object, old: Object) -> list[tuple[str, str]]:
    """(field, why) of a change to one that is queued."""
    before, after = labels(old).get(kueue.QUEUE_LABEL), labels(owner).get(kueue.QUEUE_LABEL)
    if not before:
        return [] if not after or not replicas_of(old) else [(_QUEUE_FIELD, "can't be given to one that runs")]
    found = []
    ready = int((old.get("status") or {}).get("readyReplicas") or 0)
    if before != after and (ready or not after):
        found.append((_QUEUE_FIELD, "is immutable while it runs: scale it to 0 first" if after else "can't be removed"))
    was, now = replicas_of(old), replicas_of(owner)
    if owner["kind"] == STATEFUL_SETS.kind and was != now:
        if was and now:
            found.append(("spec.replicas", f"{was} may only become 0 while it is queued: scale to 0, then to {now}"))
        elif now and int((old.get("status") or {}).get("replicas") or 0):
            found.append(("spec.replicas", "scaling down is still in progress"))
    sizes = [(it["spec"].get("leaderWorkerTemplate") or {}).get("size", 1) for it in (old, owner)]
    if was and sizes[0] != sizes[1]:
        why = f"{sizes[0]} is immutable while it is queued: scale it to 0 first"
        found.append(("spec.leaderWorkerTemplate.size", why))
    if was:
        found += [
            (path, "requests and what decides about nodes are immutable while it is queued: scale it to 0 first")
            for path, (one, other) in _templates(old, owner).items()
            if essence_of(one) != essence_of(other)
        ]
    return found


_QUEUE_FIELD = f"metadata.labels[{kueue.QUEUE_LABEL}]"


def _templates(old: Object, new: Object) -> dict[str, tuple[Object, Object]]:
    if new["kind"] == STATEFUL_SETS.kind:
        return {"spec.template.spec": (old["spec"]["template"], new["spec"]["template"])}
    one, other = old["spec"]["leaderWorkerTemplate"], new["spec"]["leaderWorkerTemplate"]
    return {
        f"spec.leaderWorkerTemplate.{name}.spec": (one.get(name) or {}, other.get(name) or {})
        for name in ("leaderTemplate", "workerTemplate")
    }
