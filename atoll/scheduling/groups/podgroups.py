"""PodGroups: the coscheduling plugin's, Volcano's, and Kubernetes' own (`scheduling.k8s.io/v1alpha2`).

Sources: kubernetes-sigs/scheduler-plugins KEP-42, Volcano's PodGroup documentation, Kubernetes' KEP-4671. In all of
them a pod names its group, and an object of that name says how many members make sense.
"""

from __future__ import annotations

from collections.abc import Sequence

from atoll.kinds import batch
from atoll.kinds.resource import Resource
from atoll.kinds.workload import WORKLOAD_POD_GROUPS
from atoll.objects import meta
from atoll.objects.meta import labels
from atoll.scheduling import resources
from atoll.scheduling.groups.model import TIMEOUT_SECONDS, Group, Missing, Object, SimpleDialect, Topology


def _missing(kind: Resource, name: str) -> Missing:
    return Missing(f"its PodGroup {name} ({kind.group}) does not exist", f"creating PodGroup {name}")


class Coscheduling(SimpleDialect):
    """Label scheduling.x-k8s.io/pod-group; the pod waits until the PodGroup exists."""

    name = "coscheduling"
    kind = batch.POD_GROUPS

    def group_name(self, pod: Object) -> str | None:
        return labels(pod).get(batch.POD_GROUP_LABEL)

    def group(self, name: str, owner: Object | None, pods: Sequence[Object]) -> Group | Missing | None:
        if owner is None:
            return _missing(batch.POD_GROUPS, name)
        spec = owner.get("spec") or {}
        return Group(
            least=int(spec.get("minMember") or 1),
            resources=resources.amounts(spec.get("minResources")),
            timeout_seconds=float(spec.get("scheduleTimeoutSeconds") or TIMEOUT_SECONDS),
        )


class Volcano(SimpleDialect):
    """Annotation scheduling.k8s.io/group-name; tasks have minima of their own (minTaskMember)."""

    name = "volcano"
    kind = batch.VOLCANO_POD_GROUPS

    def group_name(self, pod: Object) -> str | None:
        return meta.annotations(pod).get(batch.VOLCANO_GROUP)

    def group(self, name: str, owner: Object | None, pods: Sequence[Object]) -> Group | Missing | None:
        if owner is None:
            return _missing(batch.VOLCANO_POD_GROUPS, name)
        spec, status = owner.get("spec") or {}, owner.get("status") or {}
        if status.get("phase", "Pending") == "Pending":
            return Missing(*_not_let_in(spec, status))
        least = max(int(spec.get("minMember") or 0), 1)
        tasks = {task: int(count) for task, count in (spec.get("minTaskMember") or {}).items()}
        return Group(
            least=least,
            tasks=tasks if sum(tasks.values()) <= least else {},  # fewer than that: any members will do
            resources=resources.amounts(spec.get("minResources")),
            topology=_network(spec.get("networkTopology") or {}),
        )

    def task(self, pod: Object) -> str:
        return meta.annotations(pod).get(batch.VOLCANO_TASK, "")


class VolcanoPods(Volcano):
    """Pods that ask for Volcano's scheduler and name no group: each has a PodGroup of its own, made for it."""

    name = "volcano-pod"

    def group_name(self, pod: Object) -> str | None:
        if (pod.get("spec") or {}).get("schedulerName") != batch.VOLCANO_SCHEDULER:
            return None
        return None if super().group_name(pod) else f"podgroup-{pod['metadata'].get('uid')}"


def _not_let_in(spec: Object, status: Object) -> tuple[str, str]:
    """A group is placed once its queue has let it in (phase Inqueue)."""
    queue = spec.get("queue") or "default"
    why = next((item.get("message") for item in status.get("conditions") or () if item.get("message")), None)
    lack = f"queue {queue} has not let it in" + (f": {why}" if why else "")
    return lack, f"room in queue {queue}"


def _network(wanted: Object) -> Topology:
    """Volcano's tiers are those of HyperNodes, which we do not have: a tier's name is taken as a node label."""
    level = str(wanted.get("highestTierName") or "")
    if "/" not in level:
        return Topology()
    return Topology(preferred=level) if wanted.get("mode") == "soft" else Topology(required=level)


class WorkloadPodGroups(SimpleDialect):
    """`spec.schedulingGroup.podGroupName`; alpha in 1.36, and off unless asked for."""

    name = "workload"
    kind = WORKLOAD_POD_GROUPS

    def group_name(self, pod: Object) -> str | None:
        found = ((pod.get("spec") or {}).get("schedulingGroup") or {}).get("podGroupName")
        return str(found) if found else None

    def group(self, name: str, owner: Object | None, pods: Sequence[Object]) -> Group | Missing | None:
        if owner is None:
            return _missing(WORKLOAD_POD_GROUPS, name)
        spec = owner.get("spec") or {}
        gang = (spec.get("schedulingPolicy") or {}).get("gang")
        keys = [item.get("key") or "" for item in (spec.get("schedulingConstraints") or {}).get("topology") or ()]
        topology = Topology(required=keys[0]) if keys else Topology()
        whole = spec.get("disruptionMode") == "PodGroup"  # Pod where it says nothing
        priority = int(spec.get("priority") or 0) if spec.get("priorityClassName") else None
        if gang is None and not keys and not whole and priority is None:
            return None
        least = 1 if gang is None else int(gang.get("minCount") or 1)
        return Group(least, topology=topology, goes_whole=whole, priority=priority)
