"""The objects that a JobSet makes: its Jobs, its headless Service, its shared claims. Pure.

Labels and annotations on Jobs and pods are JobSet's. Exclusive placement (one Job to a topology domain) is written as
pod affinity and anti-affinity into all pods of a Job, where JobSet's webhooks give the followers a node selector once
their leader has a node: the same pods share a domain, and the gang is placed at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from atoll.capacity.groups.jobset import model
from atoll.capacity.groups.jobset.model import Object
from atoll.objects import meta
from atoll.objects.meta import copy, labels, owner_reference


def job_name(jobset: Object, replicated: Object, index: int) -> str:
    return f"{jobset['metadata']['name']}-{replicated['name']}-{index}"


def missing_jobs(jobset: Object, replicated: Object, there: set[str]) -> Iterator[Object]:
    """The Jobs of a replicated job that do not exist."""
    for index in range(int(replicated.get("replicas", 1))):
        if job_name(jobset, replicated, index) not in there:
            yield new_job(jobset, replicated, index)


def new_job(jobset: Object, replicated: Object, index: int) -> Object:
    template = replicated["template"]
    spec = copy(template["spec"])
    pod = spec["template"]
    tags, notes = _tags(jobset, replicated, index), _notes(jobset, replicated)
    metadata = {
        "name": job_name(jobset, replicated, index),
        "namespace": jobset["metadata"]["namespace"],
        "ownerReferences": [owner_reference(jobset)],
        **_described(template.get("metadata"), tags, notes),
    }
    pod["metadata"] = {**(pod.get("metadata") or {}), **_described(pod.get("metadata"), tags, notes)}
    network = jobset["spec"].get("network") or {}
    if network.get("enableDNSHostnames"):
        pod["spec"]["subdomain"] = model.subdomain(jobset)
    if model.EXCLUSIVE in notes:
        _place_exclusively(pod["spec"], notes, tags, metadata)
    _mount_claims(jobset, pod["spec"])
    spec["suspend"] = model.is_suspended(jobset)
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _described(metadata: Object | None, tags: dict[str, str], notes: dict[str, str]) -> dict[str, Any]:
    found = metadata or {}
    return {
        "labels": {**(found.get("labels") or {}), **tags},
        "annotations": {**(found.get("annotations") or {}), **tags, **notes},
    }


def _tags(jobset: Object, replicated: Object, index: int) -> dict[str, str]:
    metadata, jobs = jobset["metadata"], jobset["spec"]["replicatedJobs"]
    name = job_name(jobset, replicated, index)
    group = replicated.get("groupName") or "default"
    before = jobs[: [item["name"] for item in jobs].index(replicated["name"])]
    digest = hashlib.sha1(f"{metadata['namespace']}/{name}".encode(), usedforsecurity=False).hexdigest()
    again = model.job_restarts(jobset.get("status") or {}, replicated["name"], index)
    found = {
        model.NAME: metadata["name"],
        model.UID: metadata["uid"],
        model.REPLICATED_JOB: replicated["name"],
        model.REPLICAS: str(_replicas([replicated])),
        model.GLOBAL_REPLICAS: str(_replicas(jobs)),
        model.JOB_INDEX: str(index),
        model.JOB_KEY: digest,
        model.GLOBAL_INDEX: str(_replicas(before) + index),
        model.GROUP: group,
        model.GROUP_REPLICAS: str(_replicas(_of_group(jobs, group))),
        model.GROUP_INDEX: str(_replicas(_of_group(before, group)) + index),
        model.RESTARTS: str(model.restarts(jobset)),
        model.JOB_RESTARTS: str(again),
    }
    coordinator = jobset["spec"].get("coordinator")
    if coordinator is not None:
        found[model.COORDINATOR] = coordinator_address(jobset, coordinator)
    return found


def coordinator_address(jobset: Object, coordinator: Object) -> str:
    """The stable name of one pod: those of indexed Jobs have hostnames."""
    place = f"{coordinator.get('jobIndex', 0)}-{coordinator.get('podIndex', 0)}"
    return f"{jobset['metadata']['name']}-{coordinator['replicatedJob']}-{place}.{model.subdomain(jobset)}"


def _of_group(jobs: list[Object], group: str) -> list[Object]:
    return [item for item in jobs if (item.get("groupName") or "default") == group]


def _replicas(jobs: list[Object]) -> int:
    return sum(int(item.get("replicas", 1)) for item in jobs)


def _notes(jobset: Object, replicated: Object) -> dict[str, str]:
    """Exclusive placement, of the JobSet or of the replicated job."""
    found = {}
    for source in (meta.annotations(jobset), (replicated["template"].get("metadata") or {}).get("annotations") or {}):
        for name in (model.EXCLUSIVE, model.NODE_SELECTOR_STRATEGY):
            if model.EXCLUSIVE in source and name in source:
                found[name] = source[name]
    return found


def _place_exclusively(spec: Object, notes: dict[str, str], tags: dict[str, str], job: Object) -> None:
    if model.NODE_SELECTOR_STRATEGY in notes:  # someone has labelled and tainted nodes for each Job
        nodes = {model.NAMESPACED_JOB: f"{job['namespace']}_{job['name']}"}
        spec["nodeSelector"] = {**(spec.get("nodeSelector") or {}), **nodes}
        toleration = {"key": model.NO_SCHEDULE_TAINT, "operator": "Exists", "effect": "NoSchedule"}
        spec["tolerations"] = [*(spec.get("tolerations") or ()), toleration]
        return
    key, topology = tags[model.JOB_KEY], notes[model.EXCLUSIVE]
    mine: Object = {"key": model.JOB_KEY, "operator": "In", "values": [key]}
    others: list[Object] = [
        {"key": model.JOB_KEY, "operator": "Exists"},
        {"key": model.JOB_KEY, "operator": "NotIn", "values": [key]},
    ]
    affinity = spec.setdefault("affinity", {})
    for name, expressions in (("podAffinity", [mine]), ("podAntiAffinity", others)):
        term = {"labelSelector": {"matchExpressions": expressions}, "topologyKey": topology, "namespaceSelector": {}}
        rules = affinity.setdefault(name, {})
        required = "requiredDuringSchedulingIgnoredDuringExecution"
        rules[required] = [*(rules.get(required) or ()), term]


# the Service and the claims


def headless_service(jobset: Object) -> Object | None:
    """What gives the pods their names in DNS; None where those are not wanted."""
    network = jobset["spec"].get("network") or {}
    if not network.get("enableDNSHostnames"):
        return None
    name, metadata = model.subdomain(jobset), jobset["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": metadata["namespace"], "ownerReferences": [owner_reference(jobset)]},
        "spec": {
            "clusterIP": "None",
            "selector": {model.NAME: metadata["name"]},
            "publishNotReadyAddresses": network.get("publishNotReadyAddresses", True),
        },
    }


def shared_claims(jobset: Object) -> list[Object]:
    found = []
    metadata = jobset["metadata"]
    for policy in jobset["spec"].get("volumeClaimPolicies") or ():
        kept = (policy.get("retentionPolicy") or {}).get("whenDeleted") == "Retain"
        for template in policy.get("templates") or ():
            own = template.get("metadata") or {}
            claim: Object = {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {
                    "name": f"{own['name']}-{metadata['name']}",
                    "namespace": metadata["namespace"],
                    "labels": {**(own.get("labels") or {}), model.NAME: metadata["name"]},
                    "annotations": own.get("annotations") or {},
                },
                "spec": copy(template["spec"]),
            }
            if not kept:
                claim["metadata"]["ownerReferences"] = [owner_reference(jobset)]
            found.append(claim)
    return found


def _mount_claims(jobset: Object, spec: Object) -> None:
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    mounted = {mount["name"] for item in containers for mount in item.get("volumeMounts") or ()}
    for claim in shared_claims(jobset):
        name = claim["metadata"]["name"].removesuffix(f"-{jobset['metadata']['name']}")
        if name in mounted:
            source = {"persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}
            spec["volumes"] = [*(spec.get("volumes") or ()), {"name": name, **source}]


def resumed(jobset: Object, job: Object, replicated: Object) -> Object:
    """A suspended Job let go, as the JobSet's template wants it now: queues change that while it waits.

    What others put on the Job's template (the job controller's labels) stays.
    """
    fresh = new_job(jobset, replicated, model.number(labels(job).get(model.JOB_INDEX)))["spec"]["template"]
    spec = job["spec"]
    pod = {**spec["template"], "metadata": dict(spec["template"].get("metadata") or {})}
    for name in ("labels", "annotations"):
        pod["metadata"][name] = {**(pod["metadata"].get(name) or {}), **fresh["metadata"][name]}
    free = ("nodeSelector", "tolerations", "schedulingGates")
    kept = {name: value for name, value in pod["spec"].items() if name not in free}
    pod["spec"] = {**kept, **{name: fresh["spec"][name] for name in free if name in fresh["spec"]}}
    return {**job, "spec": {**spec, "template": pod, "suspend": False}}
