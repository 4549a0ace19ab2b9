"""Who belongs together: the gang that a pod names, and how many members make sense by the object that declares it.

An own reading of each project's documentation, apart from the scheduler's (`atoll/scheduling/groups`): what checks it
must not share its mistakes. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from atoll.kinds import batch, kueue, workload
from atoll.objects import meta

Object = dict[str, Any]


class Member(NamedTuple):
    """Of which gang a pod is. `owner`: the object that declares it; `size`: as the pod itself says, 0: it does not."""

    kind: str  # job, coscheduling, volcano, workload, kueue, leaderworkerset, jobset
    name: str
    owner: str
    task: str = ""
    size: int = 0


class Needs(NamedTuple):
    """How many members make sense, by task ("" for any). `staged`: one task after the other is made, each a gang."""

    tasks: Mapping[str, int]
    staged: bool = False
    patience: float = 0.0  # seconds that it may be half placed; 0: the default


NONE = Needs({})


def member_of(pod: Object) -> Member | None:
    """The gang that the pod names, but for Jobs' (its controller says that)."""
    labels, notes = meta.labels(pod), meta.annotations(pod)
    declared = ((pod.get("spec") or {}).get("schedulingGroup") or {}).get("podGroupName")
    if declared:
        return Member("workload", declared, declared)
    name = labels.get(batch.POD_GROUP_LABEL)
    if name:
        return Member("coscheduling", name, name)
    name = notes.get(batch.VOLCANO_GROUP)
    if name:
        return Member("volcano", name, name, notes.get(batch.VOLCANO_TASK, ""))
    name = labels.get(kueue.POD_GROUP_LABEL)
    if name and kueue.POD_PARENT not in notes and kueue.POD_GROUP_FAST not in notes:
        return Member("kueue", name, "", size=_number(notes.get(kueue.POD_GROUP_TOTAL)))
    name, index = labels.get(batch.LWS_NAME), labels.get(batch.LWS_GROUP)
    if name and index is not None:
        task = "leader" if labels.get(batch.LWS_WORKER) == "0" else "worker"
        return Member("leaderworkerset", f"{name}-{index}", name, task, _number(notes.get(batch.LWS_SIZE)))
    name = labels.get(batch.JOB_SET_NAME)
    if name:
        return Member("jobset", name, name, labels.get(batch.REPLICATED_JOB, ""))
    return None


DECLARED: Mapping[str, str] = {
    "jobs.batch": "job",
    batch.POD_GROUPS.group_resource: "coscheduling",
    batch.VOLCANO_POD_GROUPS.group_resource: "volcano",
    workload.WORKLOAD_POD_GROUPS.group_resource: "workload",
    batch.LEADER_WORKER_SETS.group_resource: "leaderworkerset",
    batch.JOB_SETS.group_resource: "jobset",
}
"""Resources whose objects declare gangs, and of what kind those are."""


def needs_of(kind: str, obj: Object) -> Needs:
    """What an object declares."""
    spec, gang = obj.get("spec") or {}, meta.annotations(obj).get(batch.GANG)
    if kind == "coscheduling":
        patience = float(spec.get("scheduleTimeoutSeconds") or 0)
        return Needs({"": int(spec.get("minMember") or 0)}, patience=patience)
    if kind == "volcano":
        least = int(spec.get("minMember") or 0)
        tasks = {task: int(count) for task, count in (spec.get("minTaskMember") or {}).items()}
        return Needs({**tasks, "": least - sum(tasks.values())} if sum(tasks.values()) <= least else {"": least})
    if kind == "workload":
        policy = (spec.get("schedulingPolicy") or {}).get("gang")
        return NONE if policy is None else Needs({"": int(policy.get("minCount") or 0)})
    if gang == "false":
        return NONE
    if kind == "leaderworkerset":
        size = int(spec["leaderWorkerTemplate"].get("size", 1))
        return Needs({"leader": 1, "worker": size - 1}, staged=spec.get("startupPolicy") == "LeaderReady")
    if kind == "jobset":
        jobs = spec.get("replicatedJobs") or ()
        staged = (spec.get("startupPolicy") or {}).get("startupPolicyOrder") == "InOrder"
        staged = staged or any(job.get("dependsOn") for job in jobs)
        return Needs({job["name"]: int(job.get("replicas", 1)) * _at_once(job["template"]) for job in jobs}, staged)
    if gang != "true" and not meta.labels(obj).get(kueue.QUEUE_LABEL):
        return NONE
    least = _number(meta.annotations(obj).get(kueue.MIN_PARALLELISM))
    pods = _at_once(obj)
    return Needs({"": min(pods, least) if least else pods})


def _at_once(job: Object) -> int:
    """Pods that a Job (or its template) runs beside each other."""
    pods = int(job["spec"].get("parallelism", 1))
    completions = job["spec"].get("completions")
    return pods if completions is None else min(pods, int(completions))


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0
