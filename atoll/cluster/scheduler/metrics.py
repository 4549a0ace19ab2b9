"""scheduler_…: what the scheduler does, for Prometheus, under kube-scheduler's names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

from atoll.base.metrics import Metrics, exponential
from atoll.cluster.scheduler.queue import SchedulingQueue, Waiting

Object = dict[str, Any]
_QUEUES = ("active", "backoff", "unschedulable", "gated")


class SchedulerMetrics:
    """Of one profile."""

    def __init__(self, metrics: Metrics, profile: str, queue: SchedulingQueue) -> None:
        self._metrics = metrics
        self._profile = profile
        self._queue = queue
        labels = ("result", "profile")
        self._attempts = metrics.counter(
            "scheduler_schedule_attempts_total", "[STABLE] Attempts to place a pod.", labels
        )
        self._seconds = metrics.histogram(
            "scheduler_scheduling_attempt_duration_seconds", "[STABLE] Seconds that an attempt took.",
            exponential(0.001, 2, 15), labels,
        )  # fmt: skip
        self._tries = metrics.histogram(
            "scheduler_pod_scheduling_attempts", "[STABLE] Attempts until a pod was placed.", exponential(1, 2, 5)
        ).of()
        self._waits = metrics.histogram(
            "scheduler_pod_scheduling_sli_duration_seconds", "[BETA] Seconds from the queue to a node.",
            exponential(0.01, 2, 20), ("attempts",),
        )  # fmt: skip
        self._preemptions = metrics.counter(
            "scheduler_preemption_attempts_total", "[STABLE] Times that pods were displaced for another."
        ).of()
        self._victims = metrics.histogram(
            "scheduler_preemption_victims", "[STABLE] Pods that were displaced at one time.", exponential(1, 2, 7)
        ).of()
        self._pending = metrics.gauge("scheduler_pending_pods", "[STABLE] Pods that wait, by queue.", ("queue",))
        metrics.on_scrape(self._refresh)

    def attempted(self, result: str, seconds: float) -> None:
        """`result`: scheduled, unschedulable or error."""
        self._attempts.of(result, self._profile).value += 1
        self._seconds.of(result, self._profile).observe(seconds)

    def placed(self, waiting: Waiting, now: float) -> None:
        """It is bound."""
        self._tries.observe(waiting.attempts)
        self._waits.of(str(min(waiting.attempts, 15))).observe(now - waiting.since)

    def preempted(self, victims: int) -> None:
        self._preemptions.value += 1
        self._victims.observe(victims)

    def watch_gangs(self, gang_of: Callable[[Object], Hashable | None], now: Callable[[], float]) -> None:
        """Count the gangs that wait, too. kube-scheduler has no such metrics."""
        waiting = self._metrics.gauge("atoll_gangs_waiting", "Gangs of which pods wait for nodes.").of()
        oldest = self._metrics.gauge("atoll_gang_wait_seconds", "How long the one that waits longest has waited.").of()

        def refresh() -> None:
            since: dict[Hashable, float] = {}
            for item in self._queue.everyone():
                gang = None if item.place == "gated" else gang_of(item.pod.obj)
                if gang is not None:
                    since[gang] = min(item.since, since.get(gang, item.since))
            waiting.set(len(since))
            oldest.set(now() - min(since.values()) if since else 0.0)

        self._metrics.on_scrape(refresh)

    def _refresh(self) -> None:
        places = Counter(self._queue.places())
        for queue in _QUEUES:
            self._pending.of(queue).set(places[queue])
