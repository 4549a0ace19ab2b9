"""Queueing in a cluster: Kueue's kinds, their admission and controllers, wired."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.base.metrics import Metrics
from atoll.capacity.queueing import config
from atoll.capacity.queueing.admission import DEFAULT_QUEUE, QueueChecks, QueuedJobs, QueueRules
from atoll.capacity.queueing.controller import QueueController
from atoll.capacity.queueing.deployments import QueuedDeployments
from atoll.capacity.queueing.foreign import CONFIGURATIONS, DEPLOYMENT, NAMESPACE, WEBHOOKS, is_foreign
from atoll.capacity.queueing.jobs import JobQueueing
from atoll.capacity.queueing.jobsets import JobSetQueueing, QueuedJobSets
from atoll.capacity.queueing.keeping import Keepers
from atoll.capacity.queueing.leaving import LeavingWorkloads
from atoll.capacity.queueing.lifecycle import WorkloadController
from atoll.capacity.queueing.metrics import QueueingMetrics
from atoll.capacity.queueing.multikueue import MultiKueue
from atoll.capacity.queueing.parts import Parts
from atoll.capacity.queueing.pods import PodQueueing
from atoll.capacity.queueing.provisioning import ProvisioningChecks
from atoll.capacity.queueing.queues import QueueStatus
from atoll.capacity.queueing.service_admission import QueuedServices
from atoll.capacity.queueing.service_groups import ServiceQueueing
from atoll.capacity.queueing.ungate import TopologyUngater
from atoll.capacity.queueing.unhealthy import FailedNodes
from atoll.capacity.queueing.worker_access import kubeconfig_at
from atoll.capacity.specs import EmptySpecs
from atoll.client.port import Client
from atoll.cluster.store.port import Key, Store
from atoll.kinds import kueue
from atoll.kinds.batch import JOB_SETS, LEADER_WORKER_SETS
from atoll.kinds.builtin import CONFIGMAPS, DEPLOYMENTS, JOBS, NAMESPACES, STATEFUL_SETS
from atoll.kinds.resource import Resource
from atoll.runtime.events import EventRecorder
from atoll.runtime.informer import Informers

NAME = DEPLOYMENT  # the controllers' identity and the source of their events, as upstream


@dataclass(frozen=True, slots=True)
class Queueing:
    """The controllers; `queues.state` is what they know."""

    queues: QueueController
    runnables: tuple[Any, ...]


Plugins = tuple[EmptySpecs, QueuedServices, QueuedJobs, QueuedJobSets, QueuedDeployments]


def queue_admission(store: Store) -> tuple[Plugins, QueueChecks]:
    """The plugins (mutating, validating), which look at the newest state."""

    def objects(resource: Resource) -> Iterable[dict[str, Any]]:
        return (record.object for record in store.scan(resource.group_resource))

    def newest(resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        record = store.get(Key(resource.group_resource, namespace, name))
        return None if record is None else record.object

    def on() -> bool:
        return not is_foreign(newest(DEPLOYMENTS, NAMESPACE, DEPLOYMENT), newest(CONFIGURATIONS, "", WEBHOOKS))

    def has_default(namespace: str) -> bool:
        return newest(kueue.LOCAL_QUEUES, namespace, DEFAULT_QUEUE) is not None

    @functools.lru_cache(maxsize=1)
    def unnamed_of(text: str) -> config.Unnamed:
        try:
            return config.parse(text).unnamed
        except config.ConfigError:
            return config.Unnamed()  # the controller tells of it

    def unnamed(namespace: str) -> bool:
        found = newest(CONFIGMAPS, config.NAMESPACE, config.NAME)
        text = ((found or {}).get("data") or {}).get(config.FILE)
        if not text:
            return False
        space = newest(NAMESPACES, "", namespace) or {}
        return unnamed_of(text).selects(namespace, (space.get("metadata") or {}).get("labels") or {})

    def dispatched(namespace: str, queue: str) -> bool:
        local = newest(kueue.LOCAL_QUEUES, namespace, queue) or {}
        found = newest(kueue.CLUSTER_QUEUES, "", (local.get("spec") or {}).get("clusterQueue") or "") or {}
        spec = found.get("spec") or {}
        listed = (spec.get("admissionChecksStrategy") or {}).get("admissionChecks") or ()
        names = [*(spec.get("admissionChecks") or ()), *(item["name"] for item in listed)]
        checks = ((newest(kueue.ADMISSION_CHECKS, "", name) or {}).get("spec") or {} for name in names)
        return any(check.get("controllerName") == kueue.MULTIKUEUE for check in checks)

    rules = QueueRules(on, has_default, unnamed, dispatched)
    plugins = (
        EmptySpecs(kueue.custom_resource_definitions()),
        QueuedServices(on, newest),
        QueuedJobs(rules, newest),
        QueuedJobSets(rules),
        QueuedDeployments(on),
    )
    return plugins, QueueChecks(objects, on)


def make_queueing(
    client_for: Callable[[str], Client],
    informers: Informers,
    clock: Clock,
    chance: Chance,
    *,
    job_sets: bool = False,
    metrics: Metrics | None = None,
    connect: Callable[[str], Client] | None = None,
    kubeconfig_folders: Sequence[Path] = (),
) -> Queueing:
    """They write as `client_for(NAME)`. `job_sets`: JobSets and LeaderWorkerSets are served, and queued too.
    `metrics`: where they count.

    `connect`: a client of the cluster that a kubeconfig's text names, for MultiKueue; without it nothing is dispatched.
    `kubeconfig_folders`: where those that MultiKueueClusters name by path may lie.
    """
    deployments, configurations = informers.of(DEPLOYMENTS), informers.of(CONFIGURATIONS)
    client = client_for(NAME)

    def on() -> bool:
        if not (deployments.synced.is_set() and configurations.synced.is_set()):
            return False
        return not is_foreign(deployments.get(DEPLOYMENT, NAMESPACE), configurations.get(WEBHOOKS))

    counted = QueueingMetrics(metrics or Metrics())
    parts = Parts(client, informers, clock, EventRecorder(client, NAME, clock, chance), on, counted)
    queues = QueueController(parts)
    others = (
        WorkloadController(parts, queues),
        Keepers(parts, queues),
        TopologyUngater(parts),
        FailedNodes(parts),
        ServiceQueueing(parts, (STATEFUL_SETS, LEADER_WORKER_SETS) if job_sets else (STATEFUL_SETS,)),
        LeavingWorkloads(parts, (JOBS, JOB_SETS) if job_sets else (JOBS,)),
        ProvisioningChecks(parts),
        JobQueueing(parts, queues.manages),
        PodQueueing(parts),
        QueueStatus(parts, queues),
    )
    more: list[Any] = [JobSetQueueing(parts, queues.manages)] if job_sets else []
    if connect is not None:
        read_file = functools.partial(kubeconfig_at, folders=kubeconfig_folders)
        more.append(MultiKueue(parts, connect, read_file, lambda: queues.options.multi))
    return Queueing(queues, (queues, *others, *more))
