"""What LeaderWorkerSet's pod webhook does, as admission: a pod learns its group, its index and its leader's address.

Exclusive placement (one group, or one subgroup, to a topology domain) is written as pod affinity and anti-affinity into
all pods of a group, where LeaderWorkerSet waits for the leader's node and gives workers a node selector: the group is
placed at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from atoll.capacity.groups.leaderworkerset import model
from atoll.capacity.groups.leaderworkerset.model import Object
from atoll.capacity.queueing.admission import Request, carries


class GroupPods:
    """Mutating."""

    resources = frozenset({"pods"})

    def __init__(self, on: Callable[[], bool]) -> None:
        self._on = on

    def depends_on(self, user: Any) -> tuple[str, ...]:
        return ()

    def each_time(self, group_resource: str, obj: Object) -> bool:
        """A pod of a group is told its place, which its name says."""
        return carries(obj, model.NAME)

    def mutate(self, request: Request) -> Awaitable[None] | None:
        pod = request.obj
        if request.operation != "CREATE" or request.subresource or pod is None:
            return None
        if model.NAME in ((pod.get("metadata") or {}).get("labels") or {}) and self._on():
            complete(pod, request.namespace)
        return None


def complete(pod: Object, namespace: str) -> None:
    """In place. Pods that are not of a StatefulSet of ours (their names say no index) are left alone."""
    metadata, spec = pod["metadata"], pod["spec"]
    tags, notes = metadata["labels"], metadata.get("annotations") or {}
    number = model.ordinal(metadata.get("name") or "")
    if number < 0 or model.SIZE not in notes:
        return
    leader = tags.get(model.WORKER_INDEX) == "0"
    leader_name = metadata["name"] if leader else notes.get(model.LEADER, "")
    if leader:
        tags[model.GROUP_INDEX] = str(number)
        tags[model.GROUP_KEY] = model.key_of(namespace, leader_name)
    else:
        tags[model.WORKER_INDEX] = str(number)
    if notes.get(model.SUBDOMAIN_POLICY) == "UniquePerReplica":
        spec["subdomain"] = leader_name
    index = 0 if leader else number
    if model.EXCLUSIVE in notes:
        _keep_together(spec, model.GROUP_KEY, tags[model.GROUP_KEY], notes[model.EXCLUSIVE])
    _join_subgroup(pod, leader_name, index, namespace)
    address = f"{leader_name}.{spec.get('subdomain') or tags[model.NAME]}.{namespace}"
    variables = {"LWS_LEADER_ADDRESS": address, "LWS_GROUP_SIZE": notes[model.SIZE], "LWS_WORKER_INDEX": str(index)}
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        known = {item["name"] for item in container.get("env") or ()}
        fresh = [{"name": name, "value": value} for name, value in variables.items() if name not in known]
        container["env"] = [*fresh, *(container.get("env") or ())]


def _join_subgroup(pod: Object, leader_name: str, index: int, namespace: str) -> None:
    metadata = pod["metadata"]
    tags, notes = metadata["labels"], metadata.get("annotations") or {}
    text = notes.get(model.SUBGROUP_SIZE, "")
    if not text.isdigit() or not int(text):
        return
    found = subgroup(index, int(notes[model.SIZE]), int(text), notes.get(model.SUBGROUP_POLICY, "LeaderWorker"))
    if found is None:
        return
    tags[model.SUBGROUP_INDEX] = str(found)
    tags[model.SUBGROUP_KEY] = model.key_of(namespace, f"{leader_name}/{found}")
    if model.SUBGROUP_EXCLUSIVE in notes:
        _keep_together(pod["spec"], model.SUBGROUP_KEY, tags[model.SUBGROUP_KEY], notes[model.SUBGROUP_EXCLUSIVE])


def subgroup(index: int, size: int, subgroup_size: int, policy: str) -> int | None:
    """Which subgroup a pod is of; None for a leader that is in none. Where the workers alone divide evenly, the leader
    is one more in the first."""
    if policy == "LeaderExcluded":
        return None if index == 0 else (index - 1) // subgroup_size
    if size % subgroup_size == 0:
        return index // subgroup_size
    return max(0, index - 1) // subgroup_size


def _keep_together(spec: Object, label: str, key: str, topology: str) -> None:
    mine = [{"key": label, "operator": "In", "values": [key]}]
    others = [{"key": label, "operator": "Exists"}, {"key": label, "operator": "NotIn", "values": [key]}]
    affinity = spec.setdefault("affinity", {})
    for name, expressions in (("podAffinity", mine), ("podAntiAffinity", others)):
        term = {"labelSelector": {"matchExpressions": expressions}, "topologyKey": topology}
        rules = affinity.setdefault(name, {})
        required = "requiredDuringSchedulingIgnoredDuringExecution"
        rules[required] = [*(rules.get(required) or ()), term]
