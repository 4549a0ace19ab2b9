"""A cluster's scheduler, wired in one way for clusters that live, simulations and worlds of tests: CEL over devices,
and the gangs of the kinds that the cluster serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from atoll.app.assembly import Assembly
from atoll.app.fleetspec import ClusterSpec
from atoll.cluster.apiserver.expressions.selectors import CelSelectors
from atoll.cluster.apiserver.ports import User
from atoll.cluster.scheduler.gangs.book import GangBook
from atoll.cluster.scheduler.scheduler import USER, Scheduler
from atoll.runtime.informer import Informers
from atoll.scheduling.plugins.port import Plugin


def make_scheduler(
    assembly: Assembly,
    informers: Informers,
    spec: ClusterSpec,
    *,
    plugins: Sequence[Plugin] = (),
    profiles: Mapping[str, Sequence[Plugin]] | None = None,
) -> Scheduler:
    """`plugins` decide beside the default ones; `profiles`: by schedulerName those that decide instead."""
    gangs, also = _gangs(informers, spec)
    return Scheduler(
        assembly.client(User(USER, ("system:authenticated",)), "kube-scheduler"),  # its roles are that user's
        informers,
        assembly.clock,
        assembly.chance,
        metrics=assembly.metrics,
        plugins=plugins,
        selectors=CelSelectors(),
        gangs=gangs,
        also=also,
        profiles=profiles,
        taint_rules=spec.device_previews,
    )


def _gangs(informers: Informers, spec: ClusterSpec) -> tuple[GangBook | None, Callable[[str], bool]]:
    """What the scheduler knows of pods that belong together, and whose pods it places beside its own."""
    if not (spec.batch or spec.queueing or spec.workload_api):
        return None, lambda name: False
    from atoll.app.batch import gang_book, other_schedulers  # few clusters have it

    return gang_book(informers, spec), other_schedulers(informers, spec)
