"""The next step of a LeaderWorkerSet, of its StatefulSets and pods. Pure.

Each replica is a leader (a pod of the leader StatefulSet) and its workers (a StatefulSet that the leader owns, so it
goes with it). A pod that restarts or goes takes its whole group along, as the restart policy says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from atoll.base.clock import rfc3339
from atoll.capacity.groups.leaderworkerset import construct, model
from atoll.capacity.groups.leaderworkerset.model import Group, Object, Plan
from atoll.capacity.groups.leaderworkerset.rollout import plan_rollout
from atoll.objects.meta import is_deleting, labels
from atoll.runtime.events import NORMAL


def plan_set(
    lws: Object, leaders: Object | None, worker_sets: Mapping[str, Object], pods: Sequence[Object],
    revisions: Sequence[Object], now: float,
) -> Plan:  # fmt: skip
    """`leaders`: its leader StatefulSet; `worker_sets` by name; `pods` and `revisions` by its name label."""
    wanted = model.revision_of(lws)
    groups = _groups(pods, worker_sets)
    templates = {labels(item).get(model.REVISION): item["data"]["spec"] for item in revisions}
    templates[wanted] = model.template_of(lws)
    ready = {index: group.is_ready(_size(group, templates)) for index, group in groups.items()}
    updated = {index: group.has(wanted) for index, group in groups.items()}
    rollout = plan_rollout(lws, leaders, ready, updated)
    plan = Plan(_status(lws, leaders, rollout.replicas, ready, updated, wanted, now))
    plan.events = _news(lws, plan.status)
    plan.create.append(construct.service(lws))
    if all(labels(item).get(model.REVISION) != wanted for item in revisions):
        number = max((int(item.get("revision") or 0) for item in revisions), default=0) + 1
        plan.create.append(construct.revision(lws, wanted, number))
    plan.apply.append(construct.leaders(lws, rollout, wanted))
    for group in groups.values():
        _group_step(lws, group, templates, plan)
    if all(updated.get(index, False) for index in range(max(rollout.replicas, model.replicas(lws)))):
        plan.forget = [item for item in revisions if labels(item).get(model.REVISION) != wanted]
    return plan


def _groups(pods: Sequence[Object], worker_sets: Mapping[str, Object]) -> dict[int, Group]:
    found: dict[int, Group] = {}
    for pod in pods:
        text = labels(pod).get(model.GROUP_INDEX, "")
        if not text.isdigit():
            continue
        group = found.setdefault(int(text), Group(int(text)))
        group.pods.append(pod)
        if labels(pod).get(model.WORKER_INDEX) == "0":
            group.leader = pod
            group.workers = worker_sets.get(pod["metadata"]["name"])
    return found


def _size(group: Group, templates: Mapping[str | None, Object]) -> int:
    template = templates.get(labels(group.leader).get(model.REVISION)) if group.leader is not None else None
    return 1 if template is None else model.size(template)


def _group_step(lws: Object, group: Group, templates: Mapping[str | None, Object], plan: Plan) -> None:
    leader = group.leader
    if leader is None or is_deleting(leader):
        return
    if _must_restart(lws, group):
        plan.restart.append(leader)
        return
    template = templates.get(labels(leader).get(model.REVISION))
    if template is None:
        return
    if not model.is_shared(template):
        plan.create.append(construct.service(lws, leader))
    waits = lws["spec"].get("startupPolicy") == "LeaderReady" and not model.is_ready(leader)
    if model.size(template) > 1 and group.workers is None and not waits:
        plan.create.append(construct.workers(lws, template, leader))


def _must_restart(lws: Object, group: Group) -> bool:
    policy = lws["spec"]["leaderWorkerTemplate"].get("restartPolicy", "RecreateGroupOnPodRestart")
    if policy not in ("RecreateGroupOnPodRestart", "RecreateGroupAfterStart"):
        return False
    pending = any((pod.get("status") or {}).get("phase") == "Pending" for pod in group.pods)
    if policy == "RecreateGroupAfterStart" and pending:
        return False
    own = [pod for pod in group.pods if _of_this_life(group, pod)]
    return any(is_deleting(pod) or _has_restarted(pod) for pod in own)


def _of_this_life(group: Group, pod: Object) -> bool:
    """Not a worker of the leader before this one, which is on its way out."""
    if group.leader is None or pod is group.leader:
        return True
    return (
        group.workers is not None
        and group.is_own(group.workers)
        and any(
            owner["uid"] == group.workers["metadata"]["uid"] for owner in pod["metadata"].get("ownerReferences") or ()
        )
    )


def _has_restarted(pod: Object) -> bool:
    status = pod.get("status") or {}
    containers = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    return any(item.get("restartCount") for item in containers) or status.get("phase") == "Failed"


# status


def _status(
    lws: Object, leaders: Object | None, replicas: int, ready: Mapping[int, bool], updated: Mapping[int, bool],
    revision: str, now: float,
) -> Object:  # fmt: skip
    wanted, old = model.replicas(lws), lws.get("status") or {}
    mine = range(wanted)
    all_ready = all(ready.get(index, False) for index in mine)
    all_new = all(updated.get(index, False) for index in mine)
    changing = leaders is not None and any(not updated.get(index, True) for index in range(replicas))
    status = {
        **old,
        "replicas": int(((leaders or {}).get("status") or {}).get("replicas") or 0),
        "readyReplicas": sum(ready.values()),
        "updatedReplicas": sum(updated.values()),
        "observedGeneration": lws["metadata"].get("generation", 1),
        "hpaPodSelector": f"{model.NAME}={lws['metadata']['name']},{model.WORKER_INDEX}=0",
    }
    available = all_ready and (all_new or not changing)
    told = [
        ("Available", available, "AllGroupsReady", "All replicas are ready"),
        ("Progressing", not available, "GroupsProgressing", "Replicas are progressing"),
        ("UpdateInProgress", changing, "GroupsUpdating", "Rolling Upgrade is in progress"),
    ]
    for kind, holds, reason, message in told:
        status = _with_condition(status, kind, holds, reason, message, now)
    return status


def _with_condition(status: Object, kind: str, holds: bool, reason: str, message: str, now: float) -> Object:
    listed = list(status.get("conditions") or ())
    wanted = "True" if holds else "False"
    for place, item in enumerate(listed):
        if item["type"] == kind:
            if item["status"] != wanted:
                listed[place] = {**item, "status": wanted, "lastTransitionTime": rfc3339(now)}
            return {**status, "conditions": listed}
    if not holds:
        return status
    fresh = {"type": kind, "status": wanted, "reason": reason, "message": message, "lastTransitionTime": rfc3339(now)}
    return {**status, "conditions": [*listed, fresh]}


def _news(lws: Object, status: Object) -> list[tuple[str, str, str]]:
    """Conditions that have become true."""
    before = {item["type"]: item["status"] for item in (lws.get("status") or {}).get("conditions") or ()}
    counts = f"{status['readyReplicas']} groups ready of total {model.replicas(lws)} groups"
    return [
        (NORMAL, item["reason"], f"{item['message']}, with {counts}")
        for item in status.get("conditions") or ()
        if item["status"] == "True" and before.get(item["type"]) != "True"
    ]
