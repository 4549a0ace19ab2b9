"""workqueue_…: what a controller's queue does, for Prometheus, under client-go's names."""

from __future__ import annotations

from collections.abc import Hashable

from atoll.base.clock import Clock
from atoll.base.metrics import Metrics, exponential
from atoll.runtime.queue import WorkQueue

_SECONDS = exponential(1e-8, 10.0, 10)


class QueueMetrics:
    """The observer of one queue."""

    def __init__(self, metrics: Metrics, name: str, queue: WorkQueue[Hashable], clock: Clock) -> None:
        label = ("name",)
        self._clock = clock
        self._queue = queue
        self._added: dict[Hashable, float] = {}
        self._begun: dict[Hashable, float] = {}
        self._adds = metrics.counter("workqueue_adds_total", "[ALPHA] Keys that were added.", label).of(name)
        self._retries = metrics.counter("workqueue_retries_total", "[ALPHA] Keys that failed.", label).of(name)
        self._waits = metrics.histogram(
            "workqueue_queue_duration_seconds", "[ALPHA] Seconds until a key was taken.", _SECONDS, label
        ).of(name)
        self._works = metrics.histogram(
            "workqueue_work_duration_seconds", "[ALPHA] Seconds that work on a key took.", _SECONDS, label
        ).of(name)
        self._depth = metrics.gauge("workqueue_depth", "[ALPHA] Keys that wait.", label).of(name)
        self._unfinished = metrics.gauge(
            "workqueue_unfinished_work_seconds", "[ALPHA] Seconds of work in progress.", label
        ).of(name)
        self._longest = metrics.gauge(
            "workqueue_longest_running_processor_seconds", "[ALPHA] The longest work in progress.", label
        ).of(name)
        metrics.on_scrape(self._refresh)
        queue.observer = self

    def added(self, key: Hashable) -> None:
        self._adds.value += 1
        self._added[key] = self._clock.monotonic()

    def taken(self, key: Hashable) -> None:
        now = self._clock.monotonic()
        self._begun[key] = now
        added = self._added.pop(key, None)
        if added is not None:
            self._waits.observe(now - added)

    def finished(self, key: Hashable) -> None:
        begun = self._begun.pop(key, None)
        if begun is not None:
            self._works.observe(self._clock.monotonic() - begun)

    def retried(self) -> None:
        self._retries.value += 1

    def _refresh(self) -> None:
        now = self._clock.monotonic()
        running = [now - begun for begun in self._begun.values()]
        self._depth.set(len(self._queue))
        self._unfinished.set(sum(running))
        self._longest.set(max(running, default=0.0))
