"""PodTopologySpread: pods of a selection evenly over the values of a topology key; required or preferred."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from atoll.scheduling import status
from atoll.scheduling.arrays import Bools, Floats, Ids, Ints, Rows, np
from atoll.scheduling.counts import spread_pods
from atoll.scheduling.matching import untolerated
from atoll.scheduling.plugins.node_affinity import NodeAffinity
from atoll.scheduling.plugins.port import MAX, Around, Plugin
from atoll.scheduling.plugins.taints import TaintToleration
from atoll.scheduling.pod import HOSTNAME, SpreadConstraint
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import Snapshot
from atoll.scheduling.state import NodeState
from atoll.scheduling.status import Status
from atoll.scheduling.topology import Eligible, TopologyCount


class PodTopologySpread(Plugin):
    name = "PodTopologySpread"

    def around(self, shape: Shape, nodes: Snapshot) -> Around | None:
        return _Spread(shape, nodes) if shape.hard or shape.soft else None


def _eligible(shape: Shape, nodes: Snapshot, constraint: SpreadConstraint, keys: list[str]) -> Eligible:
    """Nodes with all the keys, and by nodeAffinityPolicy and nodeTaintsPolicy."""
    template = shape.template
    affinity = NodeAffinity().filter(shape, nodes) if constraint.honor_affinity else None
    taints = TaintToleration().filter(shape, nodes) if constraint.honor_taints else None

    def of_rows(rows: Rows) -> Bools:
        found = nodes.present[rows]
        for key in keys:
            found &= nodes.label(key).ids[rows] >= 0
        for part in (affinity, taints):
            if part is not None:
                found &= part.allowed(rows)
        return found

    def of_node(node: NodeState) -> bool:
        if not all(key in node.labels for key in keys):
            return False
        if constraint.honor_affinity and not template.matches_node(node.name, node.labels):
            return False
        return not (constraint.honor_taints and untolerated(node.taints, template.tolerations))

    return Eligible(of_rows, of_node)


_GONE = -1  # the raw score of a row that is not feasible any more
_MARGIN = 1e-9  # of the weight of a host, which is some 2 to 12


@dataclass(slots=True, eq=False)
class _Scored:
    """What the last scores came from: a factor for each constraint; before they were made 0 to MAX."""

    rows: Rows
    raw: Ints
    factors: list[float]
    hosts: list[int]  # which constraints spread over hosts: their factor is that of the number of rows
    values: list[Ints]  # of the others: how many rows have each of the topology's values
    labels: list[Ids]
    left: int  # rows
    least: float  # the hosts' factor, when it has become so small that a raw score is another
    low: int
    high: int
    lows: int  # how many have the least
    highs: int

    def change(self, place: int, value: int) -> bool:
        """False where least or greatest are others by now."""
        old, low, high = self.raw.item(place), self.low, self.high
        self.raw[place] = value
        self.lows += (value == low) - (old == low)
        self.highs += (value == high) - (old == high)
        return old != _GONE and low <= value <= high and self.lows > 0 and self.highs > 0

    def leave(self, places: Sequence[int]) -> bool:
        """False where that changes the scores of others."""
        for place in places:
            old = self.raw.item(place)
            self.raw[place] = _GONE
            self.lows -= old == self.low
            self.highs -= old == self.high
            for counts, labels in zip(self.values, self.labels, strict=True):
                counts[labels.item(place)] -= 1
                if not counts.item(labels.item(place)):
                    return False
        self.left -= len(places)
        factor = _factor(self.left)
        for item in self.hosts:
            self.factors[item] = factor
        return self.lows > 0 and self.highs > 0 and (not self.hosts or factor > self.least + _MARGIN)


def _factor(domains: int) -> float:
    return math.log(domains + 2)


class _Spread(Around):
    weight = 2

    def __init__(self, shape: Shape, nodes: Snapshot) -> None:
        self._shape = shape
        self._nodes = nodes
        hard_keys = [item.topology_key for item in shape.hard]
        self._hard = [
            TopologyCount(nodes, item.topology_key, spread_pods(item), _eligible(shape, nodes, item, hard_keys))
            for item in shape.hard
        ]
        soft_keys = [item.topology_key for item in shape.soft] if shape.require_all else []
        self._soft = [
            TopologyCount(
                nodes,
                item.topology_key,
                spread_pods(item),
                # upstream counts the node itself, whatever the policies say
                None if item.topology_key == HOSTNAME else _eligible(shape, nodes, item, soft_keys),
            )
            for item in shape.soft
        ]
        self._allowed: Bools | None = None
        self._scored: _Scored | None = None
        self.refuses = bool(shape.hard)

    def sync(self) -> None:
        moved = [count.sync() for count in self._hard]
        if any(moved):
            self._allowed = None
        for count, item in zip(self._soft, self._shape.soft, strict=True):
            if count.sync() and item.topology_key != HOSTNAME:
                self._scored = None  # the scores of a whole zone are others

    def allowed(self) -> Bools:
        size = len(self._nodes.present)
        if self._allowed is None or len(self._allowed) != size:
            self._allowed = np.ones(size, np.bool_)
            for count, item, mine in zip(self._hard, self._shape.hard, self._shape.hard_self, strict=True):
                well = count.totals + mine - count.least(item.min_domains) <= item.max_skew
                well[-1] = False  # nodes without the key
                self._allowed &= well[count.column.ids]
        return self._allowed

    def scores(self, feasible: Rows) -> Ints | None:
        if not self._soft:
            return None
        ids = [count.column.ids[feasible] for count in self._soft]
        taking = np.ones(len(feasible), np.bool_)
        if self._shape.require_all:
            for labels in ids:
                taking &= labels >= 0
        total = np.zeros(len(feasible), np.float64)
        hosts = np.zeros(len(feasible), np.int64)  # pods counted by hosts
        factors: list[float] = []
        for count, item, labels in zip(self._soft, self._shape.soft, ids, strict=True):
            host = item.topology_key == HOSTNAME
            domains = int(np.count_nonzero(taking)) if host else _distinct(count, labels[taking])
            numbers = count.counts[feasible] if host else count.totals[labels]
            factors.append(_factor(domains))
            part = numbers * factors[-1] + (item.max_skew - 1)
            total += np.where(labels >= 0, part, 0.0)
            if host:
                hosts += np.where(labels >= 0, numbers, 0)
        raw = np.floor(total + 0.5).astype(np.int64)
        some = raw[taking]
        low, high = (int(some.min()), int(some.max())) if len(some) else (0, 0)
        self._scored = self._keep(feasible, raw, total, hosts, factors, ids, low, high) if taking.all() else None
        if high == 0:
            return np.where(taking, MAX, 0)
        return np.where(taking, MAX * (high + low - raw) // high, 0)

    def _keep(
        self, rows: Rows, raw: Ints, total: Floats, hosts: Ints, factors: list[float], ids: list[Ids], low: int,
        high: int,
    ) -> _Scored:  # fmt: skip
        """Where all rows have all labels that are asked for."""
        soft, where = self._shape.soft, hosts.nonzero()[0]
        are_hosts = [place for place, item in enumerate(soft) if item.topology_key == HOSTNAME]
        others = [place for place, item in enumerate(soft) if item.topology_key != HOSTNAME]
        labels = [ids[place] + 1 for place in others]  # 0: without
        values = [np.bincount(item) for item in labels]
        least = 0.0
        if len(where):
            spare = (total + 0.5 - raw)[where] / hosts[where]
            least = factors[are_hosts[0]] - float(spare.min())
        lows, highs = int(np.count_nonzero(raw == low)), int(np.count_nonzero(raw == high))
        return _Scored(rows, raw, factors, are_hosts, values, labels, len(rows), least, low, high, lows, highs)

    def rescored(self, places: Sequence[int]) -> list[int] | None:
        """The same for a few rows, as long as the least and the greatest raw score stay."""
        scored = self._scored
        if scored is None:
            return None
        if not all(scored.change(place, self._raw(scored, scored.rows.item(place))) for place in places):
            self._scored = None
            return None
        raw, low, high = scored.raw.item, scored.low, scored.high
        return [MAX * (high + low - raw(place)) // high if high else MAX for place in places]

    def leave(self, places: Sequence[int]) -> bool:
        if self._soft and (self._scored is None or not self._scored.leave(places)):
            self._scored = None
            return False
        return True

    def _raw(self, scored: _Scored, row: int) -> int:
        total, hosts, host_factor = 0.0, 0, 0.0
        for count, item, factor in zip(self._soft, self._shape.soft, scored.factors, strict=True):
            label = count.column.ids.item(row)
            if label >= 0:
                host = item.topology_key == HOSTNAME
                number = count.counts.item(row) if host else count.totals.item(label)
                total += number * factor + (item.max_skew - 1)
                if host:
                    hosts, host_factor = hosts + number, factor
        raw = math.floor(total + 0.5)
        if hosts:
            scored.least = max(scored.least, host_factor - (total + 0.5 - raw) / hosts)
        return raw

    def why(self, node: NodeState) -> Status | None:
        for count, item, mine in zip(self._hard, self._shape.hard, self._shape.hard_self, strict=True):
            number = count.at(node)
            if number is None:
                return status.SPREAD_LABEL
            if number + mine - count.least_with(item.min_domains, node) > item.max_skew:
                return status.SPREAD
        return None


def _distinct(count: TopologyCount, ids: Ids) -> int:
    """How many values; a node without the label counts as one with an empty value."""
    seen = np.zeros(len(count.column.values) + 1, np.bool_)
    seen[ids] = True
    empty = count.column.values.get("")
    if empty is not None and seen[empty]:
        seen[-1] = False
    return int(np.count_nonzero(seen))
