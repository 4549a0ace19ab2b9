"""The objects that run the tests: a DaemonSet for nodes that have just joined, a CronJob for those in service. Pure."""

from __future__ import annotations

import hashlib

import msgspec

from atoll.base.names import LABEL_PREFIX
from atoll.capacity import names
from atoll.capacity.health.model import Object
from atoll.capacity.nodes import GPU
from atoll.capacity.preflight.plan import PERIODIC, PREFLIGHT
from atoll.capacity.preflight.settings import PreflightSettings
from atoll.objects import meta

PREFLIGHT_NAME = "atoll-preflight"
PERIODIC_NAME = "atoll-gpu-test"
PRIORITY_CLASS = "atoll-gpu-test"
_DIGEST = f"{LABEL_PREFIX}settings"  # annotation: of what it was made
_SELF = {"app.kubernetes.io/managed-by": "atoll"}


def namespace() -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": names.SYSTEM_NAMESPACE, "labels": _SELF}}


def priority_class() -> Object:
    """Of periodic tests: below all work, and they put nothing off."""
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": PRIORITY_CLASS, "labels": _SELF},
        "value": -100,
        "preemptionPolicy": "Never",
        "description": "Periodic GPU tests: any work takes their place.",
    }


def daemon_set(settings: PreflightSettings) -> Object:
    """A pod for each node whose label says that tests are due, whatever its taints."""
    own = {names.TEST_LABEL: PREFLIGHT}
    test = {
        "name": "test",
        "image": settings.image,
        "command": list(settings.command),
        "env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}],
        "securityContext": {"privileged": True},
    }
    spec = {
        "nodeSelector": {names.PREFLIGHT: "pending"},
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 5,
        "initContainers": [test],
        "containers": [{"name": "passed", "image": settings.idle_image}],
    }
    made = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": PREFLIGHT_NAME, "namespace": names.SYSTEM_NAMESPACE, "labels": {**_SELF, **own}},
        "spec": {"selector": {"matchLabels": own}, "template": {"metadata": {"labels": own}, "spec": spec}},
    }
    return _stamped(made)


def cron_job(settings: PreflightSettings, nodes: int, testable: int) -> Object:
    """A few pods at a time, each on another node that is due and has free GPUs; suspended where there is none such.

    `nodes` have GPUs; `testable` of them could be tested now.
    """
    periodic = settings.periodic
    at_once = max(1, min(periodic.at_once(nodes), testable))
    own = {names.TEST_LABEL: PERIODIC}
    apart = {"labelSelector": {"matchLabels": own}, "topologyKey": "kubernetes.io/hostname"}
    pod = {
        "nodeSelector": {names.TEST_DUE: "true"},
        "priorityClassName": PRIORITY_CLASS,
        "restartPolicy": "Never",
        "tolerations": [{"key": names.TEAM, "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}},
        "containers": [
            {
                "name": "test",
                "image": periodic.image,
                "command": list(periodic.command),
                "resources": {"limits": {GPU: str(periodic.gpus)}},
            }
        ],
    }
    template = {"metadata": {"labels": own, "annotations": {f"{LABEL_PREFIX}run-seconds": f"{periodic.run_seconds:g}"}}}
    job = {
        "parallelism": at_once,
        "completions": at_once,
        "backoffLimit": 0,
        "activeDeadlineSeconds": 3600,
        "ttlSecondsAfterFinished": 600,
        "template": {**template, "spec": pod},
    }
    made = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": PERIODIC_NAME, "namespace": names.SYSTEM_NAMESPACE, "labels": {**_SELF, **own}},
        "spec": {
            "schedule": periodic.schedule,
            "concurrencyPolicy": "Forbid",
            "suspend": not (periodic.enabled and settings.enabled and testable),
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {"metadata": {"labels": own}, "spec": job},
        },
    }
    return _stamped(made)


def _stamped(made: Object) -> Object:
    digest = hashlib.sha256(msgspec.json.encode(made, order="sorted")).hexdigest()[:16]
    return {**made, "metadata": {**made["metadata"], "annotations": {_DIGEST: digest}}}


def is_current(found: Object | None, wanted: Object) -> bool:
    """Whether what the cluster has was made of the same."""
    return found is not None and meta.annotations(found).get(_DIGEST) == meta.annotations(wanted)[_DIGEST]
