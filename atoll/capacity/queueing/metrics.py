"""What the queues do, under Kueue's names (its pkg/metrics): counted as it happens, or computed when somebody asks."""

from __future__ import annotations

from atoll.base.metrics import Metrics, exponential
from atoll.capacity.queueing.local_metrics import LocalMetrics, show_local_queues
from atoll.capacity.queueing.model import FlavorResource, Key, Quota
from atoll.capacity.queueing.state import State
from atoll.capacity.queueing.status import share_of, sum_of

_WAITS = (1.0, *exponential(2.5, 2, 13))
_QUEUE = ("cluster_queue",)
_RESOURCE = ("cohort", "cluster_queue", "flavor", "resource")
_STATUSES = ("pending", "active", "terminating")


class QueueingMetrics:
    """The counters are told; `shown` refreshes the gauges from the state."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._local = LocalMetrics(metrics, _WAITS)
        counter, histogram = metrics.counter, metrics.histogram
        self._reserved = counter("kueue_quota_reserved_workloads_total", "Workloads that got quota.", _QUEUE)
        self._admitted = counter("kueue_admitted_workloads_total", "Workloads that were admitted.", _QUEUE)
        self._evicted = counter("kueue_evicted_workloads_total", "Workloads evicted.", ("cluster_queue", "reason"))
        self._preempted = counter(
            "kueue_preempted_workloads_total", "Workloads preempted.", ("preempting_cluster_queue", "reason")
        )
        self._attempts = counter("kueue_admission_attempts_total", "Decisions that were taken.", ("result",))
        self._reserve_waits = histogram(
            "kueue_quota_reserved_wait_time_seconds", "From creation or requeue to quota.", _WAITS, _QUEUE
        )
        self._admit_waits = histogram(
            "kueue_admission_wait_time_seconds", "From creation or requeue to admission.", _WAITS, _QUEUE
        )
        self._check_waits = histogram(
            "kueue_admission_checks_wait_time_seconds", "From quota to admission.", _WAITS, _QUEUE
        )

    def reserved(self, queue: str, local: Key, waited_seconds: float) -> None:
        """`local`: the LocalQueue."""
        self._reserved.of(queue).value += 1
        self._reserve_waits.of(queue).observe(waited_seconds)
        self._local.reserved(local, waited_seconds)

    def admitted(self, queue: str, local: Key, waited_seconds: float, since_quota_seconds: float) -> None:
        self._admitted.of(queue).value += 1
        self._admit_waits.of(queue).observe(waited_seconds)
        self._check_waits.of(queue).observe(since_quota_seconds)
        self._local.admitted(local, waited_seconds)

    def evicted(self, queue: str, local: Key, reason: str) -> None:
        self._evicted.of(queue, reason).value += 1
        self._local.evicted(local, reason)

    def preempted(self, queue: str, local: Key, by: str, reason: str) -> None:
        self.evicted(queue, local, "Preempted")
        self._preempted.of(by, reason).value += 1

    def attempted(self, succeeded: bool) -> None:
        self._attempts.of("success" if succeeded else "inadmissible").value += 1

    def follow(self, state: State) -> None:
        """The gauges, at each scrape, as long as the part that asks lives."""
        self._metrics.on_scrape(lambda: self._show(state))

    def _show(self, state: State) -> None:
        show_local_queues(self._metrics, state)
        gauge = self._metrics.gauge
        pending = gauge("kueue_pending_workloads", "Workloads that wait.", ("cluster_queue", "status"))
        reserving = gauge("kueue_reserving_active_workloads", "Workloads with quota.", _QUEUE)
        active = gauge("kueue_admitted_active_workloads", "Workloads that are admitted and not over.", _QUEUE)
        said = gauge("kueue_cluster_queue_status", "1 for the status that it has.", ("cluster_queue", "status"))
        share = gauge("kueue_cluster_queue_weighted_share", "Of what it borrows.", ("cluster_queue", "cohort"))
        for family in (pending, reserving, active, said, share):
            family.clear()
        resources = {
            name: gauge(f"kueue_cluster_queue_{name}", text, _RESOURCE)
            for name, text in (
                ("resource_reservation", "Reserved quota."), ("resource_usage", "Quota of admitted workloads."),
                ("nominal_quota", "Its own quota."), ("borrowing_limit", "What it may borrow."),
                ("lending_limit", "What it may lend."),
            )
        }  # fmt: skip
        for family in resources.values():
            family.clear()
        for name, node in state.nodes.items():
            line, running = state.lines[name], list(node.workloads.values())
            parked = line.parked_count()
            pending.of(name, "active").set(len(line) - parked)
            pending.of(name, "inadmissible").set(parked + len(state.aside[name]))
            reserving.of(name).set(len(running))
            active.of(name).set(sum(1 for item in running if item.admitted))
            for status in _STATUSES:
                said.of(name, status).set(float(status == _status(state, name)))
            cohort = node.queue.cohort if node.queue is not None else ""
            if state.setup.fair.enabled:
                share.of(name, cohort).set(share_of(node))
            used = sum_of(running), sum_of(item for item in running if item.admitted)
            for key, quota in node.quotas.items():
                labels = (cohort, name, *key)
                for family, amount in zip(resources.values(), _amounts(key, quota, *used), strict=True):
                    if amount is not None:
                        family.of(*labels).set(amount / 1000 if key[1] == "cpu" else amount)


def _status(state: State, name: str) -> str:
    if name not in state.inactive:
        return "active"
    return "terminating" if state.setup.queues[name].leaving else "pending"


def _amounts(
    key: FlavorResource, quota: Quota, reserved: dict[FlavorResource, int], used: dict[FlavorResource, int]
) -> tuple[int | None, ...]:
    return reserved.get(key, 0), used.get(key, 0), quota.nominal, quota.borrowing, quota.lending
