"""What node health counts: atoll_health_… on /metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from atoll.base.metrics import Metrics
from atoll.capacity.health.model import Object, Repair
from atoll.capacity.health.summary import STATES, state_of


class HealthMetrics:
    """`waiting`: nodes for which the budget has no place."""

    def __init__(self, metrics: Metrics, nodes: Iterable[Object], waiting: Mapping[str, Repair]) -> None:
        self.taken_out = metrics.counter("atoll_health_taken_out_total", "Nodes taken out of service.", ("reason",))
        self.returned = metrics.counter("atoll_health_returned_total", "Nodes returned to service.", ("remedy",))
        self.remedies = metrics.counter(
            "atoll_health_remedies_total", "Phases that repairs have come to.", ("remedy", "phase")
        )
        self.evictions = metrics.counter("atoll_health_evictions_total", "Evictions asked for.", ("result",))
        self.lost_seconds = metrics.counter(
            "atoll_lost_work_seconds_total", "Pod-seconds since the last checkpoint that stops and evictions have cost."
        )
        self._conditions = metrics.counter(
            "atoll_health_conditions_total", "Changes of the conditions that this writes.", ("type", "status", "reason")
        )
        states = metrics.gauge("atoll_health_nodes", "Nodes by what is done about them.", ("state",))

        def refresh() -> None:
            counts = Counter(state_of(node) for node in nodes)
            counts["waiting"] = len(waiting)
            for state in (*STATES, "waiting"):
                states.of(state).set(counts[state])

        metrics.on_scrape(refresh)

    def said(self, condition: Object) -> None:
        self._conditions.of(condition["type"], condition["status"], condition["reason"]).value += 1
