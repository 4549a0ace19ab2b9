"""The levels of one server: what the configuration objects say, who belongs where, and how many seats each has now.

Pure: `digest` takes the objects, `borrow` moves seats between levels by what each was seen to need, `lane` says where a
request belongs. A level that is no longer wanted stays until it is empty.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from msgspec import Struct

from atoll.base.metrics import Buckets
from atoll.cluster.apiserver.flowcontrol.allocation import Share, allocate
from atoll.cluster.apiserver.flowcontrol.defaults import MANDATORY_FLOWS, MANDATORY_LEVELS
from atoll.cluster.apiserver.flowcontrol.model import CATCH_ALL, FlowSchema, Level, read_level, read_schema
from atoll.cluster.apiserver.flowcontrol.queues import QueueSet
from atoll.cluster.apiserver.flowcontrol.retry import RetryAfter
from atoll.cluster.apiserver.flowcontrol.shuffle import deal, flow_hash
from atoll.cluster.apiserver.ports import Attributes

_MOST_PERCENT = 0.15  # of a level's seats for one request
_REMEMBERED_FLOWS = 8192
BORROWING_SECONDS = 10.0
EXECUTION_SECONDS = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0)


class LevelState:
    """One priority level at work."""

    def __init__(self, level: Level, queues: QueueSet) -> None:
        self.level = level
        self.queues = queues
        self.nominal = self.least = self.most = self.current = 0
        self.max_seats = 0  # of one request; 0: no bound of this level's
        self.target = 0.0
        self.quiescing = False
        self.retry = RetryAfter()


class Lane:
    """A FlowSchema with its level, and what went through it."""

    def __init__(self, schema: FlowSchema, state: LevelState) -> None:
        self.schema = schema
        self.state = state
        self.headers = [
            ("X-Kubernetes-Pf-Flowschema-Uid", schema.uid),
            ("X-Kubernetes-Pf-Prioritylevel-Uid", state.level.uid),
        ]
        self.at_once = 0  # answered without a wait and without an await
        self.light = 0  # others that found a seat free, with nobody waiting
        self.light_executing = 0
        self.execution = Buckets(EXECUTION_SECONDS)
        self.in_queue = self.seats_in_queue = 0
        self.executing = self.executing_seats = 0


class Flow(Struct, frozen=True):
    """Where a request belongs."""

    lane: Lane
    distinguisher: str
    hand: tuple[int, ...]


class Levels:
    """See the module. `server_limit`: seats of the whole server (400 reads and 200 writes in flight by default)."""

    def __init__(self, now: float, server_limit: int = 600) -> None:
        self.server_limit = server_limit
        self.states: dict[str, LevelState] = {}
        self.lanes: list[Lane] = []
        self.nominal_sum = 0
        self.fair_fraction = 0.0
        self._flows: dict[tuple[object, ...], Flow] = {}
        self.digest(now, (), ())

    def digest(self, now: float, levels: Iterable[Level], schemas: Iterable[FlowSchema]) -> None:
        """Take the whole configuration anew; what is mandatory is imagined where there is no object of it."""
        wanted = {level.name: level for level in levels}
        for default in MANDATORY_LEVELS:
            imagined = read_level(default)
            assert imagined is not None
            if imagined.name not in wanted:
                kept = self.states.get(imagined.name)
                wanted[imagined.name] = kept.level if kept is not None else imagined
        usable = sorted(
            (schema for schema in schemas if schema.level in wanted), key=lambda item: (item.precedence, item.name)
        )
        names = {schema.name for schema in usable}
        exempt, catch_all = (read_schema(default) for default in MANDATORY_FLOWS)
        if exempt.name not in names:
            usable.insert(0, exempt)
        if catch_all.name not in names:
            usable.append(catch_all)
        self._set_levels(now, wanted)
        before = {lane.schema.name: lane for lane in self.lanes}
        self.lanes = [self._lane(schema, before.get(schema.name)) for schema in usable]
        self._flows.clear()

    def _lane(self, schema: FlowSchema, before: Lane | None) -> Lane:
        lane = Lane(schema, self.states[schema.level])
        if before is not None and before.schema.level == schema.level:  # what it counted goes on
            before.schema, before.state, before.headers = schema, lane.state, lane.headers
            return before
        return lane

    def _set_levels(self, now: float, wanted: dict[str, Level]) -> None:
        states: dict[str, LevelState] = {}
        for name, level in wanted.items():
            state = self.states.get(name)
            if state is None:
                state = LevelState(level, QueueSet(now, level.queuing, 0))
            state.level, state.quiescing = level, False
            states[name] = state
        for name, state in self.states.items():
            if name not in states and not state.queues.idle:
                state.quiescing = True
                states[name] = state
        total = sum(state.level.shares for state in states.values())
        for name, state in states.items():
            self._set_limits(state, total, new=name not in self.states)
        self.states = states
        self.nominal_sum = sum(state.nominal for state in states.values())
        self._reallocate(now)

    def _set_limits(self, state: LevelState, total: int, new: bool) -> None:
        level = state.level
        nominal = math.ceil(self.server_limit * level.shares / total) if total else 0
        lendable = _rounded(nominal * level.lendable_percent / 100)
        borrowing = self.server_limit
        if level.borrowing_percent is not None:
            borrowing = _rounded(nominal * level.borrowing_percent / 100)
        state.nominal, state.least, state.most = nominal, nominal - lendable, nominal + borrowing
        if new:
            state.current = nominal - lendable // 2
        if level.queuing.queues > 0:
            state.max_seats = max(1, min(math.ceil(nominal * _MOST_PERCENT), nominal // level.queuing.hand_size))
        else:
            state.max_seats = 0

    def borrow(self, now: float) -> None:
        """Every BORROWING_SECONDS: give each level the seats that it needs, of those that others lend."""
        gone = [name for name, state in self.states.items() if state.quiescing and state.queues.idle]
        for name in gone:
            del self.states[name]
        self._reallocate(now)

    def _reallocate(self, now: float) -> None:
        left = self.nominal_sum
        limited: list[tuple[LevelState, int]] = []
        for state in self.states.values():
            demand = state.queues.demand
            demand.settle(now)
            if state.level.exempt:
                state.current = max(state.least, demand.high_watermark)
                state.target = float(state.current)
                left -= state.current
            else:
                floor = max(state.least, min(state.nominal, demand.high_watermark))
                state.target = max(float(floor), demand.smoothed)
                limited.append((state, floor))
        self._divide(left, limited)
        for state in self.states.values():
            state.queues.configure(now, state.level.queuing, state.current)

    def _divide(self, left: int, limited: list[tuple[LevelState, int]]) -> None:
        least, floors = sum(state.least for state, _ in limited), sum(floor for _, floor in limited)
        self.fair_fraction = 0.0
        if left <= least:  # exempt requests take so much that nobody borrows
            for state, _ in limited:
                state.current = state.least
        elif left <= floors:
            part = (left - least) / (floors - least)
            for state, floor in limited:
                state.current = state.least + _rounded((floor - state.least) * part)
        else:
            shares = [Share(state.target, float(floor), float(state.most)) for state, floor in limited]
            try:
                given, self.fair_fraction = allocate(self.nominal_sum, shares)
            except ValueError:  # bounds that leave no answer (a level that may not borrow enough): all stay as they are
                return
            for (state, _), seats in zip(limited, given, strict=True):
                state.current = _rounded(seats)

    def flow(self, asked: Attributes) -> Flow:
        """Where a request belongs: the first FlowSchema by precedence that matches."""
        user = asked.user
        key = (
            (user.name, user.groups, asked.verb, asked.group, asked.resource, asked.subresource, asked.namespace)
            if asked.resource
            else (user.name, user.groups, asked.verb, asked.path)
        )
        found = self._flows.get(key)
        if found is None:
            if len(self._flows) >= _REMEMBERED_FLOWS:
                self._flows.clear()
            found = self._flows[key] = self._classify(asked)
        return found

    def _classify(self, asked: Attributes) -> Flow:
        lane = next((lane for lane in self.lanes if lane.schema.matches(asked)), None)
        if lane is None:  # neither authenticated nor unauthenticated: the catch-all takes it all the same
            lane = next(lane for lane in self.lanes if lane.schema.name == CATCH_ALL)
        queuing = lane.state.level.queuing
        if queuing.queues <= 1:
            return Flow(lane, "", (0,))
        distinguisher = lane.schema.flow(asked)
        hashed = flow_hash(lane.schema.name, distinguisher)
        return Flow(lane, distinguisher, deal(hashed, queuing.queues, queuing.hand_size))


def _rounded(value: float) -> int:
    """As Go's math.Round: halves away from zero."""
    return math.floor(value + 0.5)
