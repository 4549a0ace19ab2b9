"""Which nodes are kept for a gang that has waited long: the domain, and in it the nodes, where least has to end. Pure.

Of a gang whose members ask for topologies of their own each part is looked at by itself; where all of them must share a
level (slices within a block), the level is kept and what is asked for within it is left to the placement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from atoll.scheduling.arrays import Ids, np
from atoll.scheduling.evaluation import Evaluation
from atoll.scheduling.filling import by_shape
from atoll.scheduling.gang import Gang, outside, tried_levels
from atoll.scheduling.plan import Planner
from atoll.scheduling.reservation import Later, Reservation, Shape, Taken, ending, keep
from atoll.scheduling.resources import PODS


def plan_reservation(planner: Planner, gang: Gang) -> Reservation | None:
    """None: the gang would find no room even when all work that ends by itself has ended, or that is not the matter."""
    nodes = planner.nodes
    nodes.follow()
    later = Later(nodes)
    parts = [replace(gang, parts=())] if gang.required else gang.parts or [gang]
    taken: Taken = []
    for part in parts:
        found = _keep(planner, later, part)
        if found is None:
            return None
        taken += found
    amounts: dict[str, Counter[str]] = {}
    devices = frozenset(nodes.names[row] for row, shape, _ in taken if shape.devices is not None)
    for row, shape, count in taken:
        kept = amounts.setdefault(nodes.names[row], Counter({PODS: 0}))
        kept[PODS] += count
        for name, value in shape.requests.items():
            kept[name] += count * value
    leaving = int(later.leaving[[nodes.rows[name] for name in amounts]].sum())
    return Reservation(gang.name, gang.priority, amounts, leaving, devices) if leaving else None


def _keep(planner: Planner, later: Later, gang: Gang) -> Taken | None:
    """Rows for the members without which it makes no sense, at the narrowest level that will do."""
    nodes = planner.nodes
    shapes = _shapes(planner, gang)
    if shapes is None:
        return None
    beyond = outside(planner, gang)
    for level in tried_levels(gang):
        ids: Ids = nodes.label(level).ids[: nodes.size] if level else np.zeros(nodes.size, np.int32)
        if beyond is not None:
            ids = np.where(beyond, np.int32(-1), ids)
        found = keep(nodes, later, shapes, ids)
        if found is not None:
            return found
    return None


def _shapes(planner: Planner, gang: Gang) -> Sequence[Shape] | None:
    groups = by_shape(planner, gang.pods[: gang.least or len(gang.pods)])
    if groups is None:
        return None
    for _, evaluation in groups:  # columns of resources that no node has yet
        for name in evaluation.shape.template.requests:
            planner.nodes.resource(name)
    return [_shape(planner, evaluation, len(pods)) for pods, evaluation in groups]


def _shape(planner: Planner, evaluation: Evaluation, count: int) -> Shape:
    requests, needs = evaluation.shape.template.requests, evaluation.shape.devices
    if not needs.demanding:
        return Shape(count, requests, evaluation.suited)
    nodes, suited = planner.nodes, evaluation.suited_later()
    ledger = planner.devices.ledger_without(ending(nodes))
    devices = np.zeros(nodes.size, np.int64)
    for row in np.flatnonzero(suited[: nodes.size]).tolist():
        node = nodes.nodes[row]
        if node is not None:
            devices[row] = needs.room_later(node.name, node.labels, node.allocatable, count, ledger)
    return Shape(count, requests, suited, devices)
