"""A live cluster's objects as its users declared them, and as a simulation can play them. Pure.

What stands for that cluster alone is taken out: what its API server and controllers wrote, and of pods what names
things that a scenario does not bring (volumes, service accounts, secrets, environments, other schedulers): a pod that
names one would never start, and environments may hold what is nobody's business. What a Job has done already is not
done again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from atoll.cluster.nodes.simulated.fast import HOLD_ANNOTATION
from atoll.kinds import kueue
from atoll.objects import meta
from atoll.objects.meta import condition, labels, owners

Object = dict[str, Any]
_JOB_LABELS = ("controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name")
_QUEUES_NOTES = (kueue.POD_SET_LABEL, kueue.TOPOLOGY_LABEL, kueue.WORKLOAD_ANNOTATION)  # of admitted templates
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_NAMESPACE_LABEL = "kubernetes.io/metadata.name"
_ENDED = ("Complete", "Completed", "Failed")
_BY_NAME = (
    "serviceAccountName", "serviceAccount", "volumes", "imagePullSecrets", "runtimeClassName", "schedulerName",
)  # fmt: skip
_OF_CONTAINERS = ("env", "envFrom", "volumeMounts", "volumeDevices")
_RUNS = ("Job", "JobSet")  # to an end


def is_wanted(obj: Object) -> bool:
    """It is not the cluster's own, not another object's to make, and not at its end."""
    metadata = obj["metadata"]
    space = metadata["name"] if obj["kind"] == "Namespace" else metadata.get("namespace") or ""
    if space.startswith("kube-") or (obj["kind"] == "PriorityClass" and metadata["name"].startswith("system-")):
        return False
    if obj["kind"] == "Namespace" and not labels(obj).keys() - {_NAMESPACE_LABEL}:
        return False
    if owners(obj) or metadata.get("deletionTimestamp"):
        return False
    return not any((condition(obj, kind) or {}).get("status") == "True" for kind in _ENDED)


def whole_queues(queues: Iterable[Object]) -> tuple[list[Object], list[str]]:
    """Queues that name what is there, and why others are left out: Kueue admits nothing to those."""
    there = [item for item in queues if not item["metadata"].get("deletionTimestamp")]
    flavors = {item["metadata"]["name"] for item in there if item["kind"] == "ResourceFlavor"}
    active, out = set(), []
    for item in there:
        name, groups = item["metadata"]["name"], (item.get("spec") or {}).get("resourceGroups") or ()
        if item["kind"] == "ClusterQueue":
            lacks = [it["name"] for group in groups for it in group["flavors"] if it["name"] not in flavors]
            active |= set() if lacks else {name}
            out += [f"ClusterQueue {name}: there is no ResourceFlavor {lacks[0]}"] if lacks else []
    found = []
    for item in there:
        name, wanted = item["metadata"]["name"], (item.get("spec") or {}).get("clusterQueue", "")
        if item["kind"] == "LocalQueue" and wanted not in active:
            out.append(f"LocalQueue {item['metadata']['namespace']}/{name}: there is no ClusterQueue {wanted} to use")
        elif item["kind"] != "ClusterQueue" or name in active:
            found.append(item)
    return found, out


def declared(obj: Object, remaining_seconds: float) -> Object:
    """The object to create in a simulation; what runs to an end takes so long from its start."""
    made: Object = meta.copy(_bare(obj))
    kind, spec = made["kind"], made.get("spec") or {}
    if kind == "Namespace":
        own = {key: value for key, value in labels(made).items() if key != _NAMESPACE_LABEL}
        return {"apiVersion": "v1", "kind": kind, "metadata": {"name": made["metadata"]["name"], "labels": own}}
    for template in _templates(made):
        _simplify(template)
        if kind in _RUNS:
            notes = template["metadata"].setdefault("annotations", {})
            notes[HOLD_ANNOTATION] = f"{remaining_seconds:g}"
    if kind == "Job":
        _job(made, spec, obj.get("status") or {})
    if kind in _RUNS and (not spec.get("suspend") or kueue.QUEUE_LABEL in labels(made)):
        spec.pop("suspend", None)  # its queue's; else its user holds it back
    for key in ("volumeClaimTemplates", "admissionChecks", "admissionChecksStrategy"):
        spec.pop(key, None)  # nobody would answer
    return made


def _bare(obj: Object) -> Object:
    """The object as its user wrote it: without what the API server and controllers have added."""
    metadata = obj["metadata"]
    kept = {key: metadata[key] for key in ("name", "namespace", "labels") if metadata.get(key)}
    notes = {key: value for key, value in (metadata.get("annotations") or {}).items() if key != _LAST_APPLIED}
    if notes:
        kept["annotations"] = notes
    rest = {key: value for key, value in obj.items() if key not in ("metadata", "status")}
    return {"apiVersion": rest.pop("apiVersion"), "kind": rest.pop("kind"), "metadata": kept, **rest}


def _job(made: Object, spec: Object, status: Object) -> None:
    for key in ("selector", "manualSelector"):
        spec.pop(key, None)
    made["metadata"]["labels"] = _without(made["metadata"].get("labels"), _JOB_LABELS)
    done = status.get("succeeded") or 0
    if done and spec.get("completions") and spec.get("completionMode") != "Indexed":
        spec["completions"] = max(1, spec["completions"] - done)


def _templates(obj: Object) -> Iterator[Object]:
    """Its templates of pods."""
    spec = obj.get("spec") or {}
    if obj["kind"] == "JobSet":
        found = [job["template"]["spec"]["template"] for job in spec.get("replicatedJobs") or ()]
    elif obj["kind"] == "LeaderWorkerSet":
        both = spec.get("leaderWorkerTemplate") or {}
        found = [both[name] for name in ("leaderTemplate", "workerTemplate") if both.get(name)]
    else:
        found = [spec["template"]] if obj["kind"] in ("Deployment", "StatefulSet", "Job") else []
    yield from found


def _simplify(template: Object) -> None:
    """What its containers ask for and where they may run stays."""
    metadata = template.setdefault("metadata", {}) or {}
    template["metadata"] = {
        key: _without(metadata.get(key), (*_JOB_LABELS, *_QUEUES_NOTES)) for key in ("labels", "annotations")
    }
    spec = template.get("spec") or {}
    for key in _BY_NAME:
        spec.pop(key, None)
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        for key in _OF_CONTAINERS:
            container.pop(key, None)
    gates = [gate for gate in spec.pop("schedulingGates", ()) if not gate["name"].startswith(kueue.GROUP)]
    if gates:
        spec["schedulingGates"] = gates


def _without(values: Object | None, keys: Iterable[str]) -> Object:
    return {key: value for key, value in (values or {}).items() if key not in keys}
