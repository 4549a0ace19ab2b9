"""InterPodAffinity: near pods that the pod wants, apart from those it or they do not want; required or preferred."""

from __future__ import annotations

from atoll.scheduling import status
from atoll.scheduling.arrays import Bools, Ints, Rows, np
from atoll.scheduling.counts import ExistingAnti, PodsOfAll, Weights
from atoll.scheduling.plugins.port import MAX, Around, Plugin
from atoll.scheduling.pod import Term
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import Snapshot
from atoll.scheduling.state import NodeState
from atoll.scheduling.status import Status
from atoll.scheduling.topology import TopologyCount


class InterPodAffinity(Plugin):
    name = "InterPodAffinity"

    def around(self, shape: Shape, nodes: Snapshot) -> Around | None:
        template = shape.template
        wanted = template.affinity or template.anti_affinity or template.preferred
        return _InterPod(shape, nodes) if wanted or shape.against or shape.liked else None


def _by_key(terms: frozenset[Term]) -> list[tuple[str, frozenset[Term]]]:
    keys = sorted({term.topology_key for term in terms})
    return [(key, frozenset(term for term in terms if term.topology_key == key)) for key in keys]


class _InterPod(Around):
    weight = 2

    def __init__(self, shape: Shape, nodes: Snapshot) -> None:
        template = shape.template
        self._shape = shape
        self._nodes = nodes
        near = PodsOfAll(template.affinity)
        self._near = [TopologyCount(nodes, term.topology_key, near) for term in template.affinity]
        self._apart = [TopologyCount(nodes, term.topology_key, PodsOfAll([term])) for term in template.anti_affinity]
        self._against = [TopologyCount(nodes, key, ExistingAnti(terms)) for key, terms in _by_key(shape.against)]
        self._liked = self._weights()
        self._allowed: Bools | None = None
        self.refuses = bool(self._near or self._apart or self._against)

    def _weights(self) -> list[TopologyCount]:
        own, liked = self._shape.template.preferred, self._shape.liked
        keys = sorted({term.topology_key for _, term in own} | {term.topology_key for term in liked})
        found = []
        for key in keys:
            mine = [item for item in own if item[1].topology_key == key]
            theirs = frozenset(term for term in liked if term.topology_key == key)
            found.append(TopologyCount(self._nodes, key, Weights(mine, theirs)))
        return found

    def sync(self) -> None:
        moved = [count.sync() for count in (*self._near, *self._apart, *self._against)]
        if any(moved):
            self._allowed = None
        for count in self._liked:
            count.sync()

    def allowed(self) -> Bools:
        size = len(self._nodes.present)
        if self._allowed is None or len(self._allowed) != size:
            self._allowed = self._evaluate(size)
        return self._allowed

    def _evaluate(self, size: int) -> Bools:
        found = np.ones(size, np.bool_)
        if self._near:
            # the first of pods that want each other may go anywhere that has the keys
            first = self._shape.affinity_self and not any(count.total for count in self._near)
            for count in self._near:
                well = count.totals > 0 if not first else np.ones(len(count.totals), np.bool_)
                well[-1] = False
                found &= well[count.column.ids]
        for count in (*self._apart, *self._against):
            found &= (count.totals <= 0)[count.column.ids]
        return found

    def scores(self, feasible: Rows) -> Ints | None:
        if not self._liked:
            return None
        raw = np.zeros(len(feasible), np.int64)
        for count in self._liked:
            raw += count.totals[count.column.ids[feasible]]
        least, most = raw.min(), raw.max()
        if most <= least:
            return None
        scaled: Ints = (MAX * ((raw - least) / (most - least))).astype(np.int64)
        return scaled

    def why(self, node: NodeState) -> Status | None:
        if self._near and not self._is_near(node):
            return status.AFFINITY
        if any((count.at(node) or 0) > 0 for count in self._apart):
            return status.ANTI_AFFINITY
        if any((count.at(node) or 0) > 0 for count in self._against):
            return status.EXISTING_ANTI_AFFINITY
        return None

    def _is_near(self, node: NodeState) -> bool:
        numbers = [count.at(node) for count in self._near]
        if any(number is None for number in numbers):
            return False
        if all(numbers):
            return True
        anywhere = any(count.total + count.change(node) for count in self._near)
        return self._shape.affinity_self and not anywhere
