"""What LocalQueues do, under Kueue's names (its LocalQueueMetrics)."""

from __future__ import annotations

from collections.abc import Sequence

from atoll.base.metrics import Metrics
from atoll.capacity.queueing.line import class_of
from atoll.capacity.queueing.model import Key, Workload
from atoll.capacity.queueing.state import State
from atoll.capacity.queueing.status import sum_of

_QUEUE = ("name", "namespace")
_STATUSES = ("True", "False")


class LocalMetrics:
    """The counters."""

    def __init__(self, metrics: Metrics, waits: Sequence[float]) -> None:
        counter, histogram = metrics.counter, metrics.histogram
        self._reserved = counter(
            "kueue_local_queue_quota_reserved_workloads_total", "Workloads that got quota.", _QUEUE
        )
        self._admitted = counter("kueue_local_queue_admitted_workloads_total", "Workloads that were admitted.", _QUEUE)
        self._evicted = counter("kueue_local_queue_evicted_workloads_total", "Workloads evicted.", (*_QUEUE, "reason"))
        self._reserve_waits = histogram(
            "kueue_local_queue_quota_reserved_wait_time_seconds", "From creation or requeue to quota.", waits, _QUEUE
        )
        self._admit_waits = histogram(
            "kueue_local_queue_admission_wait_time_seconds", "From creation or requeue to admission.", waits, _QUEUE
        )

    def reserved(self, local: Key, waited_seconds: float) -> None:
        self._reserved.of(local[1], local[0]).value += 1
        self._reserve_waits.of(local[1], local[0]).observe(waited_seconds)

    def admitted(self, local: Key, waited_seconds: float) -> None:
        self._admitted.of(local[1], local[0]).value += 1
        self._admit_waits.of(local[1], local[0]).observe(waited_seconds)

    def evicted(self, local: Key, reason: str) -> None:
        self._evicted.of(local[1], local[0], reason).value += 1


def show_local_queues(metrics: Metrics, state: State) -> None:
    """The gauges, from the state."""
    gauge = metrics.gauge
    pending = gauge("kueue_local_queue_pending_workloads", "Workloads that wait.", (*_QUEUE, "status"))
    reserving = gauge("kueue_local_queue_reserving_active_workloads", "Workloads with quota.", _QUEUE)
    active = gauge("kueue_local_queue_admitted_active_workloads", "Workloads that are admitted and not over.", _QUEUE)
    said = gauge("kueue_local_queue_status", "1 for whether it is active.", (*_QUEUE, "active"))
    resource = (*_QUEUE, "flavor", "resource")
    reservation = gauge("kueue_local_queue_resource_reservation", "Reserved quota.", resource)
    usage = gauge("kueue_local_queue_resource_usage", "Quota of admitted workloads.", resource)
    for family in (pending, reserving, active, said, reservation, usage):
        family.clear()
    for key, local in state.setup.local_queues.items():
        own, name = list(state.by_local.get(key, {}).values()), (key[1], key[0])
        running = [item for item in own if item.admission is not None]
        admitted = [item for item in running if item.admitted]
        waiting = [item for item in own if item.pending]
        lined_up = sum(1 for item in waiting if _lined_up(state, local.queue, item))
        pending.of(*name, "active").set(lined_up)
        pending.of(*name, "inadmissible").set(len(waiting) - lined_up)
        reserving.of(*name).set(len(running))
        active.of(*name).set(len(admitted))
        runs = local.stop == "None" and local.queue in state.setup.queues and local.queue not in state.inactive
        for status in _STATUSES:
            said.of(*name, status).set(float((status == "True") == runs))
        for family, workloads in ((reservation, running), (usage, admitted)):
            for (flavor, kind), amount in sum_of(workloads).items():
                family.of(*name, flavor, kind).set(amount / 1000 if kind == "cpu" else amount)


def _lined_up(state: State, queue: str, workload: Workload) -> bool:
    """Whether it is in line, and not passed over until something changes."""
    line = state.lines.get(queue)
    return line is not None and workload.key in line and class_of(workload) not in line.parked
