"""What Kueue's webhooks do, as admission: jobs of a queue start suspended, its pods gated; mistakes are refused.

Upstream's pkg/webhooks and the webhooks of its job integrations. The plugins have the shape of the API server's own
(`mutate`, `validate`); what else there is they are told by `objects`, the newest state of a resource.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from atoll.base.errors import Invalid
from atoll.capacity.queueing.asked import template_problems
from atoll.capacity.queueing.flavors import amount_of
from atoll.capacity.queueing.job_checks import grows, job_problems
from atoll.capacity.queueing.members import of_parent, role_of
from atoll.capacity.queueing.model import Object
from atoll.capacity.queueing.services import change_problems
from atoll.capacity.queueing.status import is_true
from atoll.capacity.queueing.tree import find_cycle
from atoll.kinds import kueue
from atoll.kinds.batch import JOB_SETS, LEADER_WORKER_SETS
from atoll.kinds.builtin import JOBS, PODS, STATEFUL_SETS
from atoll.kinds.resource import Resource
from atoll.objects.meta import controller_of
from atoll.objects.meta import labels as labels_of

DEFAULT_QUEUE = "default"
_QUEUED_WHOLE = ("JobSet", "LeaderWorkerSet", "Workload")
_JOBS = (JOBS, JOB_SETS)
_QUEUED: dict[tuple[Any, Any], Resource] = {
    (it.api_version, it.kind): it for it in (*_JOBS, STATEFUL_SETS, LEADER_WORKER_SETS)
}
Objects = Callable[[Resource], Iterable[Object]]
Newest = Callable[[Resource, str, str], Object | None]
"""The object of that resource, namespace and name."""


class Request(Protocol):
    """What is used of the API server's AdmissionRequest."""

    operation: str
    resource: Resource
    subresource: str
    namespace: str
    name: str
    obj: Object | None
    old: Object | None


@dataclass(frozen=True, slots=True)
class QueueRules:
    """`has_default`, `unnamed` of a namespace's name; `dispatched` of that and a LocalQueue's."""

    on: Callable[[], bool]
    has_default: Callable[[str], bool]
    unnamed: Callable[[str], bool]
    dispatched: Callable[[str, str], bool]

    def take_in(self, namespace: str, job: Object, usual: str, *, owned: bool = False) -> None:
        """A Job or JobSet that is made: its queue, whether it waits, and whose it is (`usual`: its own controller).

        `owned`: it is of what is queued as a whole, and so only by a name of its own.
        """
        queue = labels_of(job).get(kueue.QUEUE_LABEL)
        if not queue and not owned and self.has_default(namespace):
            queue = DEFAULT_QUEUE
            job["metadata"]["labels"] = {**labels_of(job), kueue.QUEUE_LABEL: queue}
        if queue or (not owned and self.unnamed(namespace)):
            job["spec"]["suspend"] = True
        if queue and self.dispatched(namespace, queue):
            let_manage(job, usual)


class QueuedJobs:
    """Mutating: a Job that names a queue is created suspended, a Pod gated. One that runs and is made larger is
    suspended at once: it has quota for what it was.

    One whose queue dispatches to other clusters is managed by MultiKueue here.

    A Job that names none gets LocalQueue `default` where its namespace `has_default`; else it is suspended where jobs
    without a queue are managed there (`unnamed`).
    """

    resources = frozenset({"jobs.batch", "pods"})

    def __init__(self, rules: QueueRules, newest: Newest) -> None:
        self._rules = rules
        self._newest = newest

    def depends_on(self, user: Any) -> tuple[str, ...]:
        return ()

    def each_time(self, group_resource: str, obj: Object) -> bool:
        return group_resource != PODS.group_resource or carries(obj, kueue.QUEUE_LABEL)

    def mutate(self, request: Request) -> Awaitable[None] | None:
        obj, old = request.obj, request.old
        if request.operation not in ("CREATE", "UPDATE") or request.subresource or obj is None or not self._rules.on():
            return None
        if request.operation == "UPDATE":
            if request.resource.plural == "jobs" and old is not None and grows(old, obj) and not is_of_queued_job(obj):
                obj["spec"] = {**obj["spec"], "suspend": True}
            return None
        labels = (obj.get("metadata") or {}).get("labels") or {}
        if request.resource.plural == "jobs":
            self._rules.take_in(request.namespace, obj, "kubernetes.io/job-controller", owned=is_of_queued_job(obj))
        elif kueue.QUEUE_LABEL not in labels:
            return None
        elif of_parent(obj) or not self._is_of_queued(request.namespace, obj):
            obj["metadata"]["labels"] = {**labels, kueue.MANAGED_LABEL: "true"}
            gates = obj["spec"].setdefault("schedulingGates", [])
            known = {gate["name"] for gate in gates}
            gates += [{"name": name} for name in (kueue.ADMISSION_GATE, kueue.TOPOLOGY_GATE) if name not in known]
            if kueue.POD_GROUP_LABEL in labels and not of_parent(obj):
                finalizers = obj["metadata"].get("finalizers") or []
                obj["metadata"]["finalizers"] = list(dict.fromkeys([*finalizers, kueue.POD_FINALIZER]))
                notes = obj["metadata"].get("annotations") or {}
                obj["metadata"]["annotations"] = {**notes, kueue.ROLE_HASH: role_of(obj)}
        return None

    def _is_of_queued(self, namespace: str, pod: Object) -> bool:
        """Whether what it is of has quota for it: its controller, or that one's. Controllers of kinds that are not
        queued here (a workflow's, a ReplicaSet) have none: their pods are queued by themselves."""
        found = pod
        for _ in _QUEUED:  # who names himself as his controller is not followed for ever
            owner = controller_of(found) or {}
            resource = _QUEUED.get((owner.get("apiVersion"), owner.get("kind")))
            above = self._newest(resource, namespace, owner.get("name") or "") if resource is not None else None
            if above is None or above["metadata"]["uid"] != owner.get("uid"):
                return False
            if labels_of(above).get(kueue.QUEUE_LABEL) or (resource in _JOBS and self._rules.unnamed(namespace)):
                return True
            found = above
        return False


def carries(obj: Object, name: str, what: str = "labels") -> bool:
    """Whether an object that nothing has looked at yet has a label (or annotation) of that name."""
    found = obj["metadata"].get(what)
    return isinstance(found, dict) and name in found


def let_manage(job: Object, usual: str) -> None:
    """What MultiKueue runs elsewhere its own controller (`usual`) leaves alone here, unless its user says otherwise."""
    if job["spec"].get("managedBy") in (None, usual):
        job["spec"]["managedBy"] = kueue.MULTIKUEUE


def is_of_queued_job(job: Object) -> bool:
    """A Job of a JobSet (or the like) that is queued as a whole."""
    owners = (job.get("metadata") or {}).get("ownerReferences") or ()
    return any(item.get("controller") and item["kind"] in _QUEUED_WHOLE for item in owners)


class QueueChecks:
    """Validating."""

    resources = frozenset(
        {
            *(f"{plural}.{kueue.GROUP}" for plural in ("clusterqueues", "cohorts", "workloads", "resourceflavors")),
            "pods",
            "jobs.batch",
            JOB_SETS.group_resource,
            STATEFUL_SETS.group_resource,
            LEADER_WORKER_SETS.group_resource,
        }
    )

    def __init__(self, objects: Objects, on: Callable[[], bool]) -> None:
        self._objects = objects
        self._on = on

    def depends_on(self, user: Any) -> tuple[str, ...]:
        return ()

    def each_time(self, group_resource: str, obj: Object) -> bool:
        if group_resource == kueue.WORKLOADS.group_resource:
            return not self._on()  # what is let through while it is looked at, is so as well while it is not
        of_a_group = carries(obj, kueue.QUEUE_LABEL) or carries(obj, kueue.POD_GROUP_TOTAL, "annotations")
        return group_resource != PODS.group_resource or of_a_group

    def validate(self, request: Request) -> Awaitable[None] | None:
        """Raises Invalid."""
        obj = request.obj
        if obj is None or request.operation not in ("CREATE", "UPDATE"):
            return None
        problems = self._problems(request, obj)
        if problems and self._on():
            kind, group = request.resource.kind, request.resource.group
            text = "; ".join(f"{path}: {why}" for path, why in problems)
            qualified = f"{kind}.{group}" if group else kind
            causes = [{"reason": "FieldValueInvalid", "field": path, "message": why} for path, why in problems]
            raise Invalid(
                f'{qualified} "{request.name}" is invalid: {text}',
                details={"name": request.name, "group": group, "kind": kind, "causes": causes},
            )
        return None

    def _problems(self, request: Request, obj: Object) -> list[tuple[str, str]]:
        plural = request.resource.plural
        if plural in ("clusterqueues", "cohorts"):
            if request.subresource:
                return []
            found = quota_problems(obj, bool(_parent(obj)))
            return found + (self._cycle(obj) if plural == "cohorts" else [])
        if plural == "workloads":
            return workload_problems(obj, request.old, request.subresource)
        if plural in ("statefulsets", "leaderworkersets") and request.subresource in ("", "scale") and request.old:
            found = change_problems(obj, request.old)
            if found or request.subresource:
                return found
        if request.subresource:
            return []
        labelled = kueue.QUEUE_LABEL in ((obj.get("metadata") or {}).get("labels") or {})
        if plural == "pods":
            asked = template_problems(request.resource.kind, obj) if labelled else []
            return pod_problems(obj) + asked if request.operation == "CREATE" else []
        of_job = job_problems(obj, request.old) if plural in ("jobs", "jobsets") else []
        return of_job + (template_problems(request.resource.kind, obj) if labelled else [])

    def _cycle(self, obj: Object) -> list[tuple[str, str]]:
        parents = {item["metadata"]["name"]: _parent(item) for item in self._objects(kueue.COHORTS)}
        name = obj["metadata"]["name"]
        parents[name] = _parent(obj)
        cycle = find_cycle({child: parent for child, parent in parents.items() if parent}, name)
        if not cycle:
            return []
        why = f"the cohorts would form a cycle: {' → '.join(cycle)}; let one of them have no parent, or another one"
        return [("spec.parentName", why)]


def _parent(obj: Object) -> str:
    spec = obj.get("spec") or {}
    return str(spec.get("parentName") or spec.get("parent") or spec.get("cohortName") or spec.get("cohort") or "")


def quota_problems(obj: Object, has_parent: bool) -> list[tuple[str, str]]:
    """(field, why): covered resources and flavours once, in one order; amounts not negative."""
    found: list[tuple[str, str]] = []
    resources: dict[str, str] = {}
    flavors: dict[str, str] = {}
    for index, group in enumerate((obj.get("spec") or {}).get("resourceGroups") or ()):
        at = f"spec.resourceGroups[{index}]"
        for place, name in enumerate(group["coveredResources"]):
            if name in resources:
                why = f"{name} is covered by {resources[name]} already; a resource is in one group only"
                found.append((f"{at}.coveredResources[{place}]", why))
            resources[name] = at
        for place, flavor in enumerate(group["flavors"]):
            where = f"{at}.flavors[{place}]"
            if flavor["name"] in flavors:
                why = f"{flavor['name']} is in {flavors[flavor['name']]} already; a flavor is in one group only"
                found.append((f"{where}.name", why))
            flavors[flavor["name"]] = at
            names = [item["name"] for item in flavor["resources"]]
            if names != group["coveredResources"]:
                wanted = ", ".join(group["coveredResources"])
                found.append((f"{where}.resources", f"must match coveredResources, in their order: {wanted}"))
            found += _amount_problems(flavor["resources"], where, has_parent)
    return found


def _amount_problems(items: list[Object], where: str, has_parent: bool) -> list[tuple[str, str]]:
    found = []
    for place, item in enumerate(items):
        at = f"{where}.resources[{place}]"
        for name in ("nominalQuota", "borrowingLimit", "lendingLimit"):
            if item.get(name) is not None and amount_of(item["name"], item[name]) < 0:
                found.append((f"{at}.{name}", f"{item[name]} is negative"))
            elif item.get(name) is not None and name != "nominalQuota" and not has_parent:
                found.append((f"{at}.{name}", "must be nil when cohort is empty: name a cohort, or leave it out"))
        lending = item.get("lendingLimit")
        if lending is not None and amount_of(item["name"], lending) > amount_of(item["name"], item["nominalQuota"]):
            found.append((f"{at}.lendingLimit", f"{lending} is more than the nominal quota, {item['nominalQuota']}"))
    return found


def workload_problems(obj: Object, old: Object | None, subresource: str) -> list[tuple[str, str]]:
    """Counts that can be; pod sets that don't change under a reservation; an admission that fits the pod sets."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    pod_sets = spec.get("podSets") or []
    found: list[tuple[str, str]] = []
    if sum(1 for item in pod_sets if item.get("minCount") is not None) > 1:
        found.append(("spec.podSets", "at most one podSet can use minCount"))
    counts = {item.get("name") or "main": int(item.get("count", 1)) for item in pod_sets}
    for index, item in enumerate(status.get("reclaimablePods") or ()):
        at = f"status.reclaimablePods[{index}]"
        if item["name"] not in counts:
            found.append((f"{at}.name", f"there is no podSet {item['name']}; there are: {', '.join(counts)}"))
        elif item["count"] > counts[item["name"]]:
            found.append((f"{at}.count", f"{item['count']} is more than the podSet's {counts[item['name']]}"))
    assigned = (status.get("admission") or {}).get("podSetAssignments") or ()
    for index, item in enumerate(assigned):
        name = item.get("name") or "main"
        if name not in counts:
            at = f"status.admission.podSetAssignments[{index}].name"
            found.append((at, f"there is no podSet {name}; there are: {', '.join(counts)}"))
        elif int(item.get("count") or 0) > counts[name]:
            at = f"status.admission.podSetAssignments[{index}].count"
            found.append((at, f"{item['count']} is more than the podSet's {counts[name]}"))
    fixed = old is not None and not subresource and is_true(old, "QuotaReserved")
    if fixed and pod_sets != ((old or {}).get("spec") or {}).get("podSets"):
        found.append(("spec.podSets", "is immutable while quota is reserved: evict it first (spec.active: false)"))
    if old is not None and subresource == "status":
        found += _admission_problems(old, obj)
    return found


def _admission_problems(old: Object, new: Object) -> list[tuple[str, str]]:
    """An admission is set or taken away; of it only the places of pods change, where a node failed."""
    before = (old.get("status") or {}).get("admission")
    after = (new.get("status") or {}).get("admission")
    if not before or not after or not (is_true(old, "QuotaReserved") and is_true(new, "QuotaReserved")):
        return []
    if _without_places(before) != _without_places(after):
        return [("status.admission", "is immutable while quota is reserved, but for topologyAssignment")]
    return []


def _without_places(admission: Object) -> Object:
    sets = [dict(item) for item in admission.get("podSetAssignments") or ()]
    for item in sets:
        item.pop("topologyAssignment", None)
        item.pop("delayedTopologyRequest", None)
    return {**admission, "podSetAssignments": sets}


def pod_problems(pod: Object) -> list[tuple[str, str]]:
    metadata = pod["metadata"]
    labels, notes = metadata.get("labels") or {}, metadata.get("annotations") or {}
    total = notes.get(kueue.POD_GROUP_TOTAL)
    if kueue.POD_GROUP_LABEL in labels and kueue.QUEUE_LABEL in labels:
        if total is None or not total.isdigit() or int(total) < 1:
            path = f"metadata.annotations[{kueue.POD_GROUP_TOTAL}]"
            return [(path, "must be the number of the group's pods, 1 or more, since the pod names a group")]
    elif total is not None and kueue.POD_GROUP_LABEL not in labels:
        return [(f"metadata.labels[{kueue.POD_GROUP_LABEL}]", "must name the group, since the pod has its total count")]
    return []
