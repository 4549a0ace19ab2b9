"""Gangs that nobody declares by a PodGroup: all pods of a JobSet, of a LeaderWorkerSet's group, of a Job that a queue
admitted, of a Kueue pod group.

What is made in stages (a JobSet with startup policy InOrder or dependsOn, workers that wait for a ready leader) is a
gang stage by stage: only parts of which a pod exists count, since the next are not created before. The annotation
`atoll.dev/gang: "false"` on the object switches it off; "true" makes a gang of a plain Job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from atoll.kinds import batch, kueue
from atoll.kinds.builtin import JOBS
from atoll.objects import meta
from atoll.objects.meta import controller_of, labels
from atoll.scheduling.groups.model import Group, Missing, Object, SimpleDialect


class JobSets(SimpleDialect):
    """Labels jobset.sigs.k8s.io/…; a replicated job is a task."""

    name = "jobset"
    kind = batch.JOB_SETS

    def group_name(self, pod: Object) -> str | None:
        return labels(pod).get(batch.JOB_SET_NAME)

    def group(self, name: str, owner: Object | None, pods: Sequence[Object]) -> Group | Missing | None:
        if owner is None or meta.annotations(owner).get(batch.GANG) == "false":
            return None
        spec = owner["spec"]
        jobs = spec.get("replicatedJobs") or ()
        sizes = {item["name"]: int(item.get("replicas", 1)) * pods_at_once(item["template"]["spec"]) for item in jobs}
        staged = (spec.get("startupPolicy") or {}).get("startupPolicyOrder") == "InOrder"
        staged = staged or any(item.get("dependsOn") for item in jobs)
        return _of_tasks({task: size for task, size in sizes.items() if size}, self, pods, staged)

    def task(self, pod: Object) -> str:
        return labels(pod).get(batch.REPLICATED_JOB, "")


def pods_at_once(spec: Object, lost: int = 0) -> int:
    """How many pods a Job runs beside each other. `lost`: indexes that have failed for good."""
    parallelism, completions = int(spec.get("parallelism", 1)), spec.get("completions")
    return parallelism if completions is None else min(parallelism, int(completions) - lost)


def _count(indexes: str) -> int:
    """How many are in a Job's list, as 1,3-5."""
    ends = [part.partition("-") for part in indexes.split(",") if part]
    return sum(int(last or first) - int(first) + 1 for first, _, last in ends if (first + last).isdigit())


def _of_tasks(sizes: Mapping[str, int], dialect: SimpleDialect, pods: Sequence[Object], staged: bool) -> Group | None:
    if staged:
        there = {dialect.task(pod) for pod in pods}
        sizes = {task: size for task, size in sizes.items() if task in there}
    return Group(sum(sizes.values()), tasks=sizes) if sizes else None


class LeaderWorkers(SimpleDialect):
    """One group (a leader and its workers) of a LeaderWorkerSet; its name is NAME-INDEX, as its leader's."""

    name = "leaderworkerset"
    kind = batch.LEADER_WORKER_SETS

    def group_name(self, pod: Object) -> str | None:
        found = labels(pod)
        if batch.LWS_NAME not in found or batch.LWS_GROUP not in found:
            return None
        return f"{found[batch.LWS_NAME]}-{found[batch.LWS_GROUP]}"

    def owner_name(self, name: str) -> str:
        return name.rpartition("-")[0]

    def group(self, name: str, owner: Object | None, pods: Sequence[Object]) -> Group | Missing | None:
        if owner is None or meta.annotations(owner).get(batch.GANG) == "false":
            return None
        texts = (meta.annotations(pod).get(batch.LWS_SIZE, "") for pod in pods)
        size = next((int(text) for text in texts if text.isdigit()), 0)
        size = size or int(owner["spec"]["leaderWorkerTemplate"].get("size", 1))
        sizes = {"leader": 1, "worker": size - 1} if size > 1 else {"leader": 1}
        return _of_tasks(sizes, self, pods, owner["spec"].get("startupPolicy") == "LeaderReady")

    def task(self, pod: Object) -> str:
        return "leader" if labels(pod).get(batch.LWS_WORKER) == "0" else "worker"


class KueuePodGroups(SimpleDialect):
    """Plain pods that Kueue (or our queueing) lets go together: a gang once their gates are open.

    Not where they come one after the other: with fast admission, and of a StatefulSet or the like.
    """

    name = "kueue"

    def group_name(self, pod: Object) -> str | None:
        notes = meta.annotations(pod)
        if kueue.POD_PARENT in notes or kueue.POD_GROUP_FAST in notes:
            return None
        return labels(pod).get(kueue.POD_GROUP_LABEL)

    def group(self, name: str, owner: Object | None, pods: Sequence[Object]) -> Group | Missing | None:
        counts = (meta.annotations(pod).get(kueue.POD_GROUP_TOTAL, "") for pod in pods)
        total = next((int(text) for text in counts if text.isdigit()), 0)
        if not total:
            return Missing(f"no pod says how many there are ({kueue.POD_GROUP_TOTAL})", "that annotation")
        return Group(total)


class QueuedJobs(SimpleDialect):
    """Jobs that a queue suspends and starts as a whole (kueue.x-k8s.io/queue-name), and those that ask for it."""

    name = "job"
    kind = JOBS

    def group_name(self, pod: Object) -> str | None:
        owner = controller_of(pod)
        if owner is None or owner["kind"] != "Job" or owner["apiVersion"] != JOBS.api_version:
            return None
        return str(owner["name"])

    def group(self, name: str, owner: Object | None, pods: Sequence[Object]) -> Group | Missing | None:
        if owner is None:
            return None
        asked = meta.annotations(owner).get(batch.GANG)
        if asked == "false" or not (asked == "true" or labels(owner).get(kueue.QUEUE_LABEL)):
            return None
        least = meta.annotations(owner).get(kueue.MIN_PARALLELISM, "")
        size = max(1, pods_at_once(owner["spec"], _count((owner.get("status") or {}).get("failedIndexes") or "")))
        return Group(min(int(least), size) if least.isdigit() and int(least) else size)
