"""Whether a project's own controller runs here: then its kinds are its, and ours stay off.

It is there where its Deployment, under the name that its published manifests give it, wants a replica.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from atoll.kinds.builtin import DEPLOYMENTS
from atoll.runtime.informer import Informers

Object = dict[str, Any]
Place = tuple[str, str]  # a Deployment's namespace and name

JOB_SET: Final[Place] = ("jobset-system", "jobset-controller-manager")
LEADER_WORKER_SET: Final[Place] = ("lws-system", "lws-controller-manager")
COSCHEDULING: Final[Place] = ("scheduler-plugins", "scheduler-plugins-controller")
COSCHEDULER: Final[Place] = ("scheduler-plugins", "scheduler-plugins-scheduler")
VOLCANO: Final[Place] = ("volcano-system", "volcano-controllers")
VOLCANO_SCHEDULER: Final[Place] = ("volcano-system", "volcano-scheduler")


def wants_replicas(deployment: Object | None) -> bool:
    return deployment is not None and int((deployment.get("spec") or {}).get("replicas", 1)) > 0


def absent(informers: Informers, place: Place) -> Callable[[], bool]:
    """True while that Deployment is known not to run."""
    deployments = informers.of(DEPLOYMENTS)
    namespace, name = place

    def check() -> bool:
        return deployments.synced.is_set() and not wants_replicas(deployments.get(name, namespace))

    return check
