"""Where pods go whose host failed, while the others of their workload stay (Kueue's TASFailedNodeReplacement). Pure.

They get hosts within the domain that the survivors are in: the required one, of a slice that is not whole the slice's;
where nothing is required, as near as can be. The new hosts stand where the old one stood, so that ranks keep their
places. Where nobody survives of a pod set (or of its group), it is placed anew. Nobody is preempted for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from atoll.capacity.queueing.domains import Ledger, Nodes
from atoll.capacity.queueing.model import Admission, PodSetAssignment, Workload
from atoll.capacity.queueing.places import Ask, place_within
from atoll.capacity.queueing.state import State
from atoll.capacity.queueing.topology import HOSTNAME, NoRoom, TopologyAssignment, TopologyRequest, Values
from atoll.capacity.queueing.topology_fit import Unit, placed_of, units_of


def replaced(state: State, workload: Workload) -> Admission | NoRoom:
    """Its admission without its unhealthy hosts; or why there are no others."""
    admission, given, setup = workload.admission, state.given, state.setup
    assert admission is not None
    failed = frozenset(map(given.nodes.host_of, workload.unhealthy))
    ledger = given.ledger((HOSTNAME,)).copy()
    for topology, requests in placed_of(workload):
        if topology.levels == (HOSTNAME,):
            ledger.take(_part(topology, failed), requests, -1)
    assigned: list[PodSetAssignment] = list(admission.pod_sets)
    for unit in units_of(workload.shape.pod_sets, admission.pod_sets, setup.flavors, setup.topologies):
        own = [it for _, index in unit.pod_sets if (it := assigned[index].topology) is not None]
        if unit.levels[-1] != HOSTNAME or len(own) < len(unit.pod_sets):
            continue
        found = _Move(given.nodes, unit, failed, ledger).replaced(own)
        if isinstance(found, NoRoom):
            return found
        for (_, index), fresh in zip(unit.pod_sets, found, strict=True):
            assigned[index] = replace(assigned[index], topology=fresh)
    return Admission(admission.queue, tuple(assigned))


def _part(topology: TopologyAssignment, hosts: frozenset[str]) -> TopologyAssignment:
    """What of it is on these hosts."""
    return replace(topology, domains=tuple(part for part in topology.domains if part[0][-1] in hosts))


@dataclass(frozen=True, slots=True)
class _Move:
    """Of pod sets that share a domain. `ledger` is without what is lost."""

    nodes: Nodes
    unit: Unit
    failed: frozenset[str]
    ledger: Ledger

    def replaced(self, own: list[TopologyAssignment]) -> list[TopologyAssignment] | NoRoom:
        parts = [values for topology in own for values, _ in topology.domains]
        survivors = [values for values in parts if values[-1] not in self.failed]
        if len(survivors) == len(parts):
            return own
        if not survivors:
            return self.unit.place(self.nodes, self.ledger)
        near = next(filter(None, (self.nodes.values_of(self.unit.levels, values) for values in survivors)), None)
        fresh = [self._kept_and_moved(index, topology, near) for index, topology in enumerate(own)]
        if None in fresh:
            lost = sorted({values[-1] for values in parts} & self.failed)
            return NoRoom(f"there is no replacement for {', '.join(lost)} within the domain of the other pods")
        return [topology for topology in fresh if topology is not None]

    def _kept_and_moved(
        self, index: int, topology: TopologyAssignment, near: Values | None
    ) -> TopologyAssignment | None:
        parts: list[tuple[Values, int]] = []
        for values, count in topology.domains:
            if values[-1] not in self.failed:
                parts.append((values, count))
                continue
            found = self._moved(index, values, count, near)
            if found is None:
                return None
            parts += found.domains
        return replace(topology, domains=tuple(parts))

    def _moved(self, index: int, lost: Values, count: int, near: Values | None) -> TopologyAssignment | None:
        pods, levels = self.unit.pod_sets[index][0], self.unit.levels
        request = pods.topology or TopologyRequest()
        whole = TopologyRequest(slices=tuple(layer for layer in request.slices if count % layer[1] == 0))
        ask = Ask(self.nodes.domains(levels, self.unit.shapes[index]), count, pods.requests, whole)
        for domain in self._where(request, count, self.nodes.values_of(levels, lost), near):
            found = place_within([ask], domain, self.ledger)
            if found is not None:
                return found[0]
        return None

    def _where(
        self, request: TopologyRequest, count: int, lost: Values | None, near: Values | None
    ) -> Iterator[Values]:
        """Domains in which they may be, the best first. `lost`, `near`: the failed host's values, and a survivor's."""
        levels = self.unit.levels
        broken = next((level for level, size in reversed(request.slices) if count % size), "")
        if broken:
            if lost is not None:
                yield lost[: levels.index(broken) + 1]
        elif request.required:
            if near is not None:
                yield near[: levels.index(request.required) + 1]
        elif near is None:
            yield ()
        else:
            first = levels.index(request.preferred) + 1 if request.preferred else 0
            yield from (near[:depth] for depth in range(first, -1, -1))
