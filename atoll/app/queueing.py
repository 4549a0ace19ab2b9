"""Queueing in a cluster: Kueue's kinds, their admission and controllers, wired."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from atoll.app.tasks import Tasks
from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.capacity.queueing.admission import QueueChecks, QueuedJobs
from atoll.capacity.queueing.controller import QueueController
from atoll.capacity.queueing.foreign import CONFIGURATIONS, DEPLOYMENT, NAMESPACE, WEBHOOKS, is_foreign
from atoll.capacity.queueing.jobs import JobQueueing
from atoll.capacity.queueing.jobsets import JobSetQueueing, QueuedJobSets
from atoll.capacity.queueing.lifecycle import WorkloadController
from atoll.capacity.queueing.parts import Parts
from atoll.capacity.queueing.pods import PodQueueing
from atoll.capacity.queueing.queues import QueueStatus
from atoll.client.port import Client
from atoll.cluster.store.port import Key, Store
from atoll.kinds.builtin import DEPLOYMENTS
from atoll.kinds.resource import Resource
from atoll.runtime.events import EventRecorder
from atoll.runtime.informer import Informers

NAME = DEPLOYMENT  # the controllers' identity and the source of their events, as upstream


@dataclass(frozen=True, slots=True)
class Queueing:
    """The controllers; `queues.state` is what they know."""

    queues: QueueController
    runnables: tuple[Any, ...]

    def start(self, tasks: Tasks) -> None:
        for runnable in self.runnables:
            tasks.start(runnable.name, runnable.run())


def queue_admission(store: Store) -> tuple[tuple[QueuedJobs, QueuedJobSets], QueueChecks]:
    """The plugins (mutating, validating), which look at the newest state."""

    def objects(resource: Resource) -> Iterable[dict[str, Any]]:
        return (record.object for record in store.scan(resource.group_resource))

    def newest(resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        record = store.get(Key(resource.group_resource, namespace, name))
        return None if record is None else record.object

    def on() -> bool:
        return not is_foreign(newest(DEPLOYMENTS, NAMESPACE, DEPLOYMENT), newest(CONFIGURATIONS, "", WEBHOOKS))

    return (QueuedJobs(on), QueuedJobSets(on)), QueueChecks(objects, on)


def make_queueing(
    client_for: Callable[[str], Client], informers: Informers, clock: Clock, chance: Chance, *, job_sets: bool = False
) -> Queueing:
    """They write as `client_for(NAME)`. `job_sets`: JobSets are served, and queued too."""
    deployments, configurations = informers.of(DEPLOYMENTS), informers.of(CONFIGURATIONS)
    client = client_for(NAME)

    def on() -> bool:
        if not (deployments.synced.is_set() and configurations.synced.is_set()):
            return False
        return not is_foreign(deployments.get(DEPLOYMENT, NAMESPACE), configurations.get(WEBHOOKS))

    parts = Parts(client, informers, clock, EventRecorder(client, NAME, clock, chance), on)
    queues = QueueController(parts)
    others = (WorkloadController(parts, queues), JobQueueing(parts), PodQueueing(parts), QueueStatus(parts, queues))
    more = (JobSetQueueing(parts),) if job_sets else ()
    return Queueing(queues, (queues, *others, *more))
