"""Gangs in a cluster: what the scheduler knows of them, and the controllers of the kinds that say so, wired."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from atoll.app.fleetspec import ClusterSpec
from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.capacity.groups import foreign
from atoll.capacity.groups.checks import Checks
from atoll.capacity.groups.jobset import admission as job_sets
from atoll.capacity.groups.jobset.controller import JobSets as JobSetController
from atoll.capacity.groups.leaderworkerset import admission as leader_worker_sets
from atoll.capacity.groups.leaderworkerset.controller import LeaderWorkerSets
from atoll.capacity.groups.leaderworkerset.pods import GroupPods
from atoll.capacity.groups.podgroups.controller import PodGroups
from atoll.capacity.groups.volcano import admission as volcano_jobs
from atoll.capacity.groups.volcano.controller import VolcanoJobs, VolcanoQueues
from atoll.capacity.groups.volcano.pods import PodGroupsOfPods
from atoll.capacity.groups.workload.controller import WorkloadPodGroups
from atoll.capacity.queueing.parts import Parts
from atoll.capacity.specs import EmptySpecs
from atoll.client.port import Client
from atoll.cluster.apiserver.admission.chain import Mutating, Validating
from atoll.cluster.scheduler.gangs.book import GangBook
from atoll.cluster.store.port import Key, Store
from atoll.kinds import batch, kueue
from atoll.kinds.builtin import DEPLOYMENTS
from atoll.kinds.resource import Resource
from atoll.runtime.events import EventRecorder
from atoll.runtime.informer import Informers
from atoll.scheduling.groups.model import Dialect
from atoll.scheduling.groups.owned import JobSets, KueuePodGroups, LeaderWorkers, QueuedJobs
from atoll.scheduling.groups.podgroups import Coscheduling, Volcano, VolcanoPods
from atoll.scheduling.groups.podgroups import WorkloadPodGroups as WorkloadGroups

_TOPOLOGIES = Resource(kueue.GROUP, kueue.VERSION, "topologies", "Topology", False)


def gang_book(informers: Informers, spec: ClusterSpec) -> GangBook | None:
    """What the scheduler goes by; None where the cluster has no kinds of gangs."""
    dialects: list[Dialect] = []
    if spec.workload_api:
        dialects.append(WorkloadGroups())
    if spec.batch:
        dialects += [Coscheduling(), Volcano()]
    if spec.batch or spec.queueing:
        dialects.append(KueuePodGroups())
    if spec.batch:
        dialects += [LeaderWorkers(), JobSets(), VolcanoPods()]
    if spec.batch or spec.queueing:
        dialects.append(QueuedJobs())
    return GangBook(informers, dialects, _TOPOLOGIES if spec.queueing else None) if dialects else None


def every_gang(informers: Informers) -> GangBook:
    """For those who only look: all dialects, whatever the cluster was made with."""
    book = gang_book(informers, ClusterSpec("any", queueing=True, batch=True, workload_api=True))
    assert book is not None
    return book


def other_schedulers(informers: Informers, spec: ClusterSpec) -> Callable[[str], bool]:
    """Whether pods of that schedulerName are ours too: those of schedulers that do not run here."""
    if not spec.batch:
        return lambda name: False
    ours = {
        batch.VOLCANO_SCHEDULER: foreign.absent(informers, foreign.VOLCANO_SCHEDULER),
        batch.COSCHEDULER: foreign.absent(informers, foreign.COSCHEDULER),
    }
    return lambda name: name in ours and ours[name]()


def batch_admission(store: Store) -> tuple[tuple[Mutating, ...], tuple[Validating, ...]]:
    """The plugins (mutating, validating): what the projects' webhooks do."""

    def on(place: foreign.Place) -> Callable[[], bool]:
        def check() -> bool:
            record = store.get(Key(DEPLOYMENTS.group_resource, *place))
            return not foreign.wants_replicas(None if record is None else record.object)

        return check

    job_set, volcano, lws = on(foreign.JOB_SET), on(foreign.VOLCANO), on(foreign.LEADER_WORKER_SET)
    specs = EmptySpecs(batch.custom_resource_definitions())
    mutating = (specs, job_sets.JobSetDefaults(job_set), volcano_jobs.VolcanoDefaults(volcano), GroupPods(lws))
    return mutating, (
        Checks(batch.JOB_SETS, job_set, job_sets.problems_of, job_sets.changes_of),
        Checks(batch.VOLCANO_JOBS, volcano, volcano_jobs.problems_of, volcano_jobs.changes_of),
        Checks(batch.LEADER_WORKER_SETS, lws, leader_worker_sets.problems_of, leader_worker_sets.changes_of),
    )


def make_batch(
    client_for: Callable[[str], Client], informers: Informers, clock: Clock, chance: Chance, spec: ClusterSpec
) -> list[Any]:
    """The controllers of the kinds that the cluster serves, each off while its project's own runs here."""

    def parts(name: str, on: Callable[[], bool]) -> Parts:
        client = client_for(name)
        return Parts(client, informers, clock, EventRecorder(client, name, clock, chance), on)

    def unless(place: foreign.Place) -> Parts:
        return parts(place[1], foreign.absent(informers, place))

    found: list[Any] = []
    if spec.workload_api:
        found.append(WorkloadPodGroups(parts("kube-scheduler", lambda: True)))
    if spec.batch:
        volcano = unless(foreign.VOLCANO)
        found += [
            PodGroups(unless(foreign.COSCHEDULING)),
            JobSetController(unless(foreign.JOB_SET)),
            VolcanoJobs(volcano),
            VolcanoQueues(volcano),
            PodGroupsOfPods(volcano),
            LeaderWorkerSets(unless(foreign.LEADER_WORKER_SET)),
        ]
    return found
