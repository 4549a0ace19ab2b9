"""The objects that a Volcano Job makes: pods with stable names, its PodGroup, and what its plugins add. Pure.

Plugins: `svc` (headless Service, host names, a ConfigMap of all hosts, mounted and in the environment), `env` (a pod's
index), and those of `frameworks.py`, which bring `svc` with them. `ssh` makes keys; it is not made here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from atoll.capacity.groups.volcano import frameworks, model
from atoll.capacity.groups.volcano.model import Object
from atoll.objects.meta import copy, owner_reference
from atoll.objects.pod_resources import as_made
from atoll.scheduling import resources

PLUGINS = ("env", "svc", *frameworks.NAMES)


def pod_name(job: Object, task: str, index: int) -> str:
    return f"{job['metadata']['name']}-{task}-{index}"


def group_name(job: Object) -> str:
    return f"{job['metadata']['name']}-{job['metadata']['uid']}"


def new_pod(job: Object, task: Object, name: str, index: int) -> Object:
    """The pod of a task (whose name is `name`) and index."""
    spec, metadata, status = job["spec"], job["metadata"], job.get("status") or {}
    template = copy(task.get("template") or {})
    own, pod = template.get("metadata") or {}, template.get("spec") or {}
    both = {
        model.JOB_NAME: metadata["name"],
        model.QUEUE_NAME: spec.get("queue") or "default",
        model.TASK: name,
        model.TASK_INDEX: str(index),
    }
    notes = {
        model.GROUP_NAME: group_name(job),
        model.JOB_VERSION: str(status.get("version") or 0),
        model.JOB_RETRIES: str(status.get("retryCount") or 0),
    }
    pod.setdefault("schedulerName", spec.get("schedulerName") or model.SCHEDULER)
    pod.setdefault("restartPolicy", "OnFailure")
    if spec.get("priorityClassName"):
        pod.setdefault("priorityClassName", spec["priorityClassName"])
    _mount_volumes(job, pod)
    plugins = spec.get("plugins") or {}
    if "env" in plugins:
        _add_env(pod, [{"name": variable, "value": str(index)} for variable in ("VK_TASK_INDEX", "VC_TASK_INDEX")])
    if _has_hosts(plugins):
        _add_hosts(job, pod, pod_name(job, name, index))
    variables, ports = frameworks.environment(job, name, index, lambda task: _hosts_of(job, task))
    _add_env(pod, [{"name": key, "value": value} for key, value in variables.items()])
    for container in pod.get("containers") or () if ports else ():
        container["ports"] = [*(container.get("ports") or ()), *ports]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(job, name, index),
            "namespace": metadata["namespace"],
            "labels": {**(own.get("labels") or {}), **both, model.JOB_NAMESPACE: metadata["namespace"]},
            "annotations": {**(own.get("annotations") or {}), **both, **notes},
            "ownerReferences": [owner_reference(job)],
        },
        "spec": pod,
    }


def _has_hosts(plugins: Object) -> bool:
    return any(name in plugins for name in ("svc", *frameworks.NAMES))


def _containers(pod: Object) -> list[Object]:
    return [*(pod.get("containers") or ()), *(pod.get("initContainers") or ())]


def _add_env(pod: Object, variables: list[Object]) -> None:
    for container in _containers(pod):
        container["env"] = [*(container.get("env") or ()), *variables]


def _mount(pod: Object, name: str, path: str, source: Object) -> None:
    pod["volumes"] = [*(pod.get("volumes") or ()), {"name": name, **source}]
    for container in _containers(pod):
        container["volumeMounts"] = [*(container.get("volumeMounts") or ()), {"name": name, "mountPath": path}]


def _mount_volumes(job: Object, pod: Object) -> None:
    for index, volume in enumerate(job["spec"].get("volumes") or ()):
        claim = claim_name(job, volume, index)
        source: Object = {"persistentVolumeClaim": {"claimName": claim}} if claim else {"emptyDir": {}}
        _mount(pod, f"volume-{index}", volume["mountPath"], source)


def claim_name(job: Object, volume: Object, index: int) -> str:
    """The claim of one of its volumes; "" for a directory of the pod's own."""
    if volume.get("volumeClaimName"):
        return str(volume["volumeClaimName"])
    return f"{job['metadata']['name']}-volume-{index}" if volume.get("volumeClaim") else ""


def _variable(task: str) -> str:
    return task.replace("-", "_").upper()


def _hosts(job: Object) -> dict[str, str]:
    """Of the ConfigMap: files with a host a line, and variables."""
    found: dict[str, str] = {}
    for place, task in enumerate(model.tasks(job)):
        name = model.task_name(task, place)
        hosts = _hosts_of(job, name)
        found[f"{name.replace('-', '_')}.host"] = "\n".join(hosts)
        found[f"VC_{_variable(name)}_HOSTS"] = ",".join(hosts)
        found[f"VC_{_variable(name)}_NUM"] = str(len(hosts))
    return found


def _hosts_of(job: Object, name: str) -> list[str]:
    """Of a task's pods; none where there is no such task."""
    sizes = {model.task_name(task, place): int(task.get("replicas", 1)) for place, task in enumerate(model.tasks(job))}
    return [f"{pod_name(job, name, index)}.{job['metadata']['name']}" for index in range(sizes.get(name, 0))]


def _add_hosts(job: Object, pod: Object, hostname: str) -> None:
    pod.setdefault("hostname", hostname)
    pod.setdefault("subdomain", job["metadata"]["name"])
    config = f"{job['metadata']['name']}-svc"
    tasks = [_variable(model.task_name(task, place)) for place, task in enumerate(model.tasks(job))]
    names = [f"VC_{task}_{what}" for task in tasks for what in ("HOSTS", "NUM")]
    _add_env(
        pod,
        [{"name": name, "valueFrom": {"configMapKeyRef": {"name": config, "key": name}}} for name in names],
    )
    _mount(pod, config, "/etc/volcano", {"configMap": {"name": config}})


# beside pods


def objects_of(job: Object) -> list[Object]:
    """What must exist before its pods: PodGroup, claims, and what plugins want."""
    found = [pod_group(job), *_claims(job)]
    plugins = job["spec"].get("plugins") or {}
    if _has_hosts(plugins):
        found += _service(job, plugins.get("svc") or [])
    return found


def _made(job: Object, kind: str, name: str, **rest: Any) -> Object:
    version = "scheduling.volcano.sh/v1beta1" if kind == "PodGroup" else "v1"
    metadata = {"name": name, "namespace": job["metadata"]["namespace"], "ownerReferences": [owner_reference(job)]}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}


def pod_group(job: Object) -> Object:
    spec = job["spec"]
    minima = {model.task_name(task, place): model.task_least(task) for place, task in enumerate(model.tasks(job))}
    wanted: Object = {
        "minMember": model.least(job),
        "minTaskMember": minima,
        "queue": spec.get("queue") or "default",
        "minResources": least_resources(job),
    }
    for name in ("priorityClassName", "networkTopology"):
        if spec.get(name):
            wanted[name] = spec[name]
    return _made(job, "PodGroup", group_name(job), spec=wanted)


def least_resources(job: Object) -> dict[str, str]:
    """What its minimum of pods asks for: of each task its own minimum first, up to the Job's."""
    left, total = model.least(job), Counter[str]()
    for task in model.tasks(job):
        count = min(left, model.task_least(task))
        left -= count
        spec = as_made((task.get("template") or {}).get("spec") or {})
        for name, value in resources.pod_requests(spec).items():
            total[name] += count * value
    return as_quantities(total)


def as_quantities(amounts: Mapping[str, int]) -> dict[str, str]:
    return {name: f"{value}m" if name == resources.CPU else str(value) for name, value in amounts.items() if value}


def _claims(job: Object) -> list[Object]:
    found = []
    for index, volume in enumerate(job["spec"].get("volumes") or ()):
        name = claim_name(job, volume, index)
        if name and volume.get("volumeClaim"):
            found.append(_made(job, "PersistentVolumeClaim", name, spec=copy(volume["volumeClaim"])))
    return found


def _service(job: Object, arguments: list[str]) -> list[Object]:
    metadata = job["metadata"]
    selector = {model.JOB_NAME: metadata["name"], model.JOB_NAMESPACE: metadata["namespace"]}
    early = any("publish-not-ready-addresses" in item and "false" not in item for item in arguments)
    spec = {"clusterIP": "None", "selector": selector, "publishNotReadyAddresses": early}
    return [
        _made(job, "ConfigMap", f"{metadata['name']}-svc", data=_hosts(job)),
        _made(job, "Service", metadata["name"], spec=spec),
    ]
