"""apiserver_flowcontrol_…: what priority and fairness does, for Prometheus. Most is read off at the scrape."""

from __future__ import annotations

from atoll.base.metrics import Buckets, Cell, Metrics
from atoll.cluster.apiserver.flowcontrol.filter import Observer
from atoll.cluster.apiserver.flowcontrol.levels import EXECUTION_SECONDS, Lane, Levels

_PREFIX = "apiserver_flowcontrol_"
_LANE = ("priority_level", "flow_schema")
_SEATS = (1, 2, 4, 8, 16, 32, 64, 100)
_LENGTHS = (0, 10, 25, 50, 100, 250, 500, 1000)


class _Of:
    """The cells of one lane."""

    __slots__ = ("dispatched", "estimated", "execution", "seen", "waited")

    def __init__(self, dispatched: Cell, waited: Buckets, execution: Buckets, estimated: Buckets) -> None:
        self.dispatched = dispatched
        self.waited = waited
        self.execution = execution
        self.estimated = estimated
        self.seen = 0  # of those that took no Request, how many are in the cells already


class FlowMetrics(Observer):
    """See the module."""

    def __init__(self, metrics: Metrics, levels: Levels) -> None:
        self._levels = levels
        self._of: dict[tuple[str, str], _Of] = {}
        self._dispatched = metrics.counter(
            f"{_PREFIX}dispatched_requests_total", "[BETA] Requests that got a seat.", _LANE
        )
        self._rejected = metrics.counter(
            f"{_PREFIX}rejected_requests_total", "[BETA] Requests that were refused.", (*_LANE, "reason")
        )
        self._waited = metrics.histogram(
            f"{_PREFIX}request_wait_duration_seconds",
            "[BETA] Seconds in a queue.",
            EXECUTION_SECONDS,
            (*_LANE, "execute"),
        )
        self._execution = metrics.histogram(
            f"{_PREFIX}request_execution_seconds", "[ALPHA] Seconds in a seat.", EXECUTION_SECONDS, (*_LANE, "type")
        )
        self._estimated = metrics.histogram(
            f"{_PREFIX}work_estimated_seats", "[ALPHA] Seats that requests were thought to need.", _SEATS, _LANE
        )
        self._lengths = metrics.histogram(
            f"{_PREFIX}request_queue_length_after_enqueue", "[ALPHA] A queue's length after a request came.",
            _LENGTHS, _LANE,
        )  # fmt: skip
        self._lane_gauges = {
            name: metrics.gauge(f"{_PREFIX}{name}", f"[{level}] {text}", _LANE)
            for name, level, text in (
                ("current_executing_requests", "BETA", "Requests in a seat."),
                ("current_executing_seats", "BETA", "Seats that are taken."),
                ("current_inqueue_requests", "BETA", "Requests that wait."),
                ("current_inqueue_seats", "ALPHA", "Seats that those who wait will take."),
            )
        }
        self._level_gauges = {
            name: metrics.gauge(f"{_PREFIX}{name}", f"[{level}] {text}", ("priority_level",))
            for name, level, text in (
                ("nominal_limit_seats", "BETA", "Seats by the level's shares."),
                ("lower_limit_seats", "ALPHA", "Seats that are never lent."),
                ("upper_limit_seats", "ALPHA", "The most seats, borrowed ones included."),
                ("current_limit_seats", "ALPHA", "Seats just now."),
                ("target_seats", "ALPHA", "Seats that borrowing aims at."),
                ("demand_seats_high_watermark", "ALPHA", "The highest demand of the last period."),
                ("demand_seats_average", "ALPHA", "The mean demand of the last period."),
                ("demand_seats_stdev", "ALPHA", "The deviation of demand in the last period."),
                ("demand_seats_smoothed", "ALPHA", "Demand, smoothed over periods."),
                ("current_r", "ALPHA", "The meter R."),
            )
        }
        self._fair = metrics.gauge(f"{_PREFIX}seat_fair_frac", "[ALPHA] The proportion of targets that was given.")
        metrics.on_scrape(self._refresh)

    def _cells(self, lane: Lane) -> _Of:
        key = (lane.state.level.name, lane.schema.name)
        found = self._of.get(key)
        if found is None:
            found = self._of[key] = _Of(
                self._dispatched.of(*key),
                self._waited.of(*key, "true"),
                self._execution.of(*key, "regular"),
                self._estimated.of(*key),
            )
        return found

    def estimated(self, lane: Lane, seats: int) -> None:
        self._cells(lane).estimated.observe(seats)

    def queued(self, lane: Lane, length: int) -> None:
        self._lengths.of(lane.state.level.name, lane.schema.name).observe(length)

    def dispatched(self, lane: Lane, queues: object, waited: float) -> None:
        cells = self._cells(lane)
        cells.dispatched.value += 1
        if not lane.state.level.exempt:
            cells.waited.observe(waited)

    def refused(self, lane: Lane, reason: str, waited: float) -> None:
        key = (lane.state.level.name, lane.schema.name)
        self._rejected.of(*key, reason).value += 1
        self._waited.of(*key, "false").observe(waited)

    def _refresh(self) -> None:
        for lane in self._levels.lanes:
            self._refresh_lane(lane)
        for gauge in self._level_gauges.values():
            gauge.clear()
        for name, state in self._levels.states.items():
            demand = state.queues.demand
            values = (
                state.nominal, state.least, state.most, state.current, state.target, demand.high_watermark,
                demand.average, demand.deviation, demand.smoothed, state.queues.progress,
            )  # fmt: skip
            for gauge, value in zip(self._level_gauges.values(), values, strict=True):
                gauge.of(name).set(value)
        self._fair.of().set(self._levels.fair_fraction)

    def _refresh_lane(self, lane: Lane) -> None:
        cells = self._cells(lane)
        new = lane.at_once + lane.light - cells.seen  # they waited not, and one seat was theirs
        cells.seen += new
        cells.dispatched.value += new
        cells.estimated.counts[0] += new
        cells.estimated.sum += new
        if not lane.state.level.exempt:
            cells.waited.counts[0] += new
        cells.execution.sum = lane.execution.sum
        cells.execution.counts[:] = lane.execution.counts
        cells.execution.counts[1] += lane.at_once  # in less than five milliseconds
        executing, seats = lane.executing + lane.light_executing, lane.executing_seats + lane.light_executing
        values = (executing, seats, lane.in_queue, lane.seats_in_queue)
        for gauge, value in zip(self._lane_gauges.values(), values, strict=True):
            gauge.of(lane.state.level.name, lane.schema.name).set(value)
